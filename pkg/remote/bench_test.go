package remote_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"builder/pkg/job"
	"builder/pkg/remote"
	"builder/pkg/remote/remotetest"
)

// BenchmarkPut puts small contents into nginx, eight at a time, and compares with a
// floor of plain requests.
func BenchmarkPut(b *testing.B) {
	const parallel = 8
	putting := func(unasked bool) func(*remote.Store, job.Content, []byte) error {
		return func(s *remote.Store, c job.Content, text []byte) error {
			_, err := s.Put(b.Context(), c, unasked, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
			return err
		}
	}
	for name, with := range map[string]func(s *remote.Store, c job.Content, text []byte) error{
		"asked": putting(false), "unasked": putting(true), "floor": plainPut(b),
	} {
		b.Run(name, func(b *testing.B) {
			real := remotetest.Nginx(b, remotetest.Options{Change: func(site string) string {
				return strings.NewReplacer(`auth_basic "artifacts"`, "auth_basic off").Replace(site)
			}})
			s, err := remote.New(real.URL, remote.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var running sync.WaitGroup
			contents := make(chan []byte)
			for range parallel {
				running.Go(func() {
					for text := range contents {
						if err := with(s, job.ContentOf(text), text); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				contents <- fmt.Appendf(nil, "content %d", i)
			}
			close(contents)
			running.Wait()
		})
	}
}

// plainPut is what everybody would write.
func plainPut(b *testing.B) func(*remote.Store, job.Content, []byte) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	b.Cleanup(client.CloseIdleConnections)
	return func(s *remote.Store, c job.Content, text []byte) error {
		name := c.String()
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, s.Prefix()+"/"+name[:2]+"/"+name, bytes.NewReader(text))
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("it answered %s", resp.Status)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}
