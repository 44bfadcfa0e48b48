package remote_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/remote"
	"builder/pkg/remote/remotetest"
)

// options are those with which the tests' stores are reached.
func options(t *testing.T, s *remotetest.Store) remote.Options {
	t.Helper()
	credentials, err := remote.ReadCredentials("", remotetest.User+":"+remotetest.Password)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Options{Credentials: credentials, CAFile: s.CAFile, Pause: time.Millisecond}
}

func open(t *testing.T, url string, o remote.Options) *remote.Store {
	t.Helper()
	s, err := remote.New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// put puts a text.
func put(t *testing.T, s *remote.Store, text string) error {
	_, err := s.Put(t.Context(), job.ContentOf([]byte(text)), false, func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	})
	return err
}

// holds fails the test unless s gives text for its hash.
func holds(t *testing.T, s *remote.Store, text string) {
	t.Helper()
	c := job.ContentOf([]byte(text))
	if there, err := s.Has(t.Context(), c); !there || err != nil {
		t.Errorf("has %v: %v, %v", c, there, err)
	}
	in, err := s.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if string(got) != text || err != nil {
		t.Errorf("%d octets, %v, want %d", len(got), err, len(text))
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

// TestReal: stores that people have.
func TestReal(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *remotetest.Store{
		"nginx":          func(t *testing.T) *remotetest.Store { return remotetest.Nginx(t, remotetest.Options{}) },
		"nginx with TLS": func(t *testing.T) *remotetest.Store { return remotetest.Nginx(t, remotetest.Options{TLS: true}) },
		"apache":         func(t *testing.T) *remotetest.Store { return remotetest.Apache(t) },
	} {
		t.Run(name, func(t *testing.T) {
			real := start(t)
			s := open(t, real.URL, options(t, real))
			if in, err := s.Open(t.Context(), job.ContentOf([]byte("nothing"))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("opening what is not there: %v, %v", in, err)
			}
			texts := []string{"", "small", strings.Repeat("large ", 1<<20)}
			for range 2 {
				for _, text := range texts {
					if err := put(t, s, text); err != nil {
						t.Fatal(err)
					}
					holds(t, s, text)
				}
			}
			c := job.ContentOf([]byte("small"))
			file, err := os.ReadFile(filepath.Join(real.Root, c.String()[:2], c.String()))
			if string(file) != "small" || err != nil {
				t.Errorf("it is not in its place: %q, %v", file, err)
			}
			s.Close()
			real.Stop()
			sent := real.Requests(t, "PUT")
			if name == "apache" {
				sent -= len(texts) // those that found no collection
			}
			if sent != len(texts) {
				t.Errorf("%d contents were sent, %d are there", sent, len(texts))
			}
			if err := put(t, s, "small"); err == nil {
				t.Error("a store that is down takes a content")
			}
		})
	}
}

// TestAtOnce: one content may be put by many.
func TestAtOnce(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{})
	text := strings.Repeat("the same ", 100_000)
	var putting sync.WaitGroup
	for range 8 {
		s := open(t, real.URL, options(t, real))
		putting.Go(func() {
			if err := put(t, s, text); err != nil {
				t.Error(err)
			}
		})
	}
	putting.Wait()
	holds(t, open(t, real.URL, options(t, real)), text)
}

// TestRefusedByNginx: what is told of a store that does not take a content, once.
func TestRefusedByNginx(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{TLS: true, Change: func(site string) string {
		return strings.Replace(site, "client_max_body_size 0", "client_max_body_size 2m", 1)
	}})
	for name, test := range map[string]struct {
		change  func(*remote.Options)
		size    int
		told    string
		refused bool
	}{
		"no credentials":    {change: func(o *remote.Options) { o.Credentials = remote.Credentials{} }, size: 10, told: "401 Unauthorized"},
		"other certificate": {change: func(o *remote.Options) { o.CAFile = "" }, size: 10, told: "certificate"},
		"too large":         {size: 3 << 20, told: "413", refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, real)
			if test.change != nil {
				test.change(&o)
			}
			err := put(t, open(t, real.URL, o), strings.Repeat("x", test.size))
			var refused *remote.RefusedError
			if err == nil || !strings.Contains(err.Error(), test.told) || errors.As(err, &refused) != test.refused {
				t.Errorf("%T %v, want %q", err, err, test.told)
			}
			if err != nil && (strings.Contains(err.Error(), remotetest.Password) || !strings.Contains(err.Error(), real.URL)) {
				t.Errorf("the error names no store, or a password: %v", err)
			}
		})
	}
}

// TestChanged: a file that was changed since it was hashed leaves nothing.
func TestChanged(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{})
	s := open(t, real.URL, options(t, real))
	hashed := bytes.Repeat([]byte("as it was "), 100_000)
	for name, now := range map[string][]byte{
		"other octets": bytes.Repeat([]byte("as it is. "), 100_000),
		"shorter":      hashed[:len(hashed)/2],
	} {
		t.Run(name, func(t *testing.T) {
			c := job.ContentOf(hashed)
			_, err := s.Put(t.Context(), c, false, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(now)), nil })
			var source *remote.SourceError
			if !errors.As(err, &source) {
				t.Errorf("%T %v", err, err)
			}
			if there, err := s.Has(t.Context(), c); there || err != nil {
				t.Errorf("it is there: %v, %v", there, err)
			}
		})
	}
}
