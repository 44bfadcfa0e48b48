package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// upload measures from the order to send a result to the last octet of it at the
// frontend. The floor posts the same octets, the content from the server's own
// store. The build has just ended, as most have that are uploaded: the server has
// held the content to its hash when it came.
func upload(ctx context.Context, b *bench) (_ []figure, err error) {
	s, err := newSink(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f, err := b.startFleet(ctx, 1, "--upload", s.url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	size := int64(b.scale(1<<10)) << 20
	build, err := leaveFile(ctx, b, f.asking, size)
	if err != nil {
		return nil, err
	}
	first, err := s.take(ctx) // the build is delivered as soon as it has ended
	if err != nil {
		return nil, err
	}
	body, err := wrap(ctx, b, f.asking, build)
	if err != nil {
		return nil, err
	}
	// In turns: the machine's speed drifts.
	ways := []func() error{
		func() error { return resend(ctx, f.asking) },
		func() error { return body.post(ctx, s.url) },
	}
	took := make([][]time.Duration, len(ways))
	for range 5 {
		for i, send := range ways {
			t, err := s.time(ctx, first.octets, send)
			if err != nil {
				return nil, err
			}
			took[i] = append(took[i], t)
		}
	}
	peak, err := f.memory("VmHWM")
	if err != nil {
		return nil, err
	}
	here, floor := median(took[0]), median(took[1])
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(first.octets)/d.Seconds()/1e6) }
	return []figure{{
		fmt.Sprintf("upload of a result of %d MiB, MB/s", size>>20), rate(here),
		rate(floor) + " (read, post)",
		fmt.Sprintf("%.2f", floor.Seconds()/here.Seconds()), ">= 0.8",
	}, {
		"peak memory of the server", megabytes(peak), "", "", "< 64 MB",
	}}, nil
}

// leaveFile has a build leave one file of size octets.
func leaveFile(ctx context.Context, b *bench, c *client.Client, size int64) (job.Build, error) {
	dir := filepath.Join(b.dir, "input")
	if err := writeFiles(dir, 1, size); err != nil {
		return job.Build{}, err
	}
	script := fmt.Sprintf("#!/bin/sh\nmv %s files\necho ready\n", dir)
	_, err := c.Schedule(ctx, job.Job{Name: "large", Platform: "bench"}, []byte(script), job.Plan{Period: job.Never}, false)
	if err != nil {
		return job.Build{}, err
	}
	if _, err := afterReady(ctx, c, wire.Watch{What: "large"}); err != nil {
		return job.Build{}, err
	}
	return c.Describe(ctx, "large", "")
}

// resend has the parked build sent again, once it is parked.
func resend(ctx context.Context, c *client.Client) error {
	for {
		reply, err := c.OutboxChange(ctx, wire.OutboxChange{Action: wire.OutboxRetry})
		if err != nil || reply.Changed > 0 {
			return err
		}
	}
}

// wrapped is a result: the file that is its content, and what is around that.
type wrapped struct {
	head, tail []byte
	file       string
}

// wrap takes the wrapping of a build's only content from its export.
func wrap(ctx context.Context, b *bench, c *client.Client, build job.Build) (wrapped, error) {
	content := build.Artifacts[0].Content
	w := wrapped{file: filepath.Join(b.dir, "data", "v1", "content", content.String()[:2], content.String())}
	export, err := os.Create(filepath.Join(b.dir, "export"))
	if err != nil {
		return w, err
	}
	defer os.Remove(export.Name()) //nolint:errcheck // what is left is seen
	defer export.Close()
	if err := c.Export(ctx, build.UUID.String(), export); err != nil {
		return w, err
	}
	begin, err := readBeginning(w.file, 64)
	if err != nil {
		return w, err
	}
	if w.head, err = readBeginning(export.Name(), 64<<10); err != nil {
		return w, err
	}
	at := bytes.Index(w.head, begin)
	if at < 0 {
		return w, errors.New("the export does not have the content where it is expected")
	}
	w.head = w.head[:at]
	if _, err := export.Seek(int64(at)+content.Size, io.SeekStart); err != nil {
		return w, err
	}
	w.tail, err = io.ReadAll(export)
	return w, err
}

func readBeginning(file string, octets int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(octets)))
}

// post is the floor.
func (w wrapped) post(ctx context.Context, url string) error {
	f, err := os.Open(w.file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	body := io.MultiReader(bytes.NewReader(w.head), f, bytes.NewReader(w.tail))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(w.head)) + info.Size() + int64(len(w.tail))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// sink is a frontend that reads what it is sent, and does not want it: so a build
// is parked, and can be sent again.
type sink struct {
	*http.Server
	url   string
	taken chan taken
}

// taken is a body that has come.
type taken struct {
	at     time.Time
	octets int64
	err    error
}

func newSink(ctx context.Context) (*sink, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{Server: &http.Server{ReadHeaderTimeout: time.Minute}, url: "http://" + l.Addr().String() + "/upload", taken: make(chan taken, 1)}
	s.Handler = s
	go s.Serve(l) //nolint:errcheck // Close ends it
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := io.CopyBuffer(onlyWriter{io.Discard}, r.Body, make([]byte, 256<<10))
	s.taken <- taken{time.Now(), n, err}
	w.WriteHeader(http.StatusForbidden)
}

// onlyWriter hides what io.Copy would take a shortcut by.
type onlyWriter struct{ io.Writer }

// take waits for a body.
func (s *sink) take(ctx context.Context) (taken, error) {
	select {
	case t := <-s.taken:
		return t, t.err
	case <-ctx.Done():
		return taken{}, ctx.Err()
	}
}

// time is how long it takes from the beginning of send until a body of so many
// octets has come.
func (s *sink) time(ctx context.Context, octets int64, send func() error) (time.Duration, error) {
	begin := time.Now()
	if err := send(); err != nil {
		return 0, err
	}
	t, err := s.take(ctx)
	if err == nil && t.octets != octets {
		err = fmt.Errorf("%d octets came, not %d", t.octets, octets)
	}
	return t.at.Sub(begin), err
}
