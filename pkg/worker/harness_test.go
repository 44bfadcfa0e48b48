package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// TestMain lets the test binary be the supervisor of its builds.
func TestMain(m *testing.M) {
	if sandbox.IsSupervisor() {
		if err := sandbox.Supervise(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const deadline = 20 * time.Second

// wait polls until done, and fails the test after the deadline.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// logged keeps what the worker says.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// scripted is a server that says what a test wants. A reference server ends the
// connection of who greets it with our own version.
type scripted struct {
	t         testing.TB
	l         net.Listener
	reference bool
	hellos    []int64 // versions, in the order in which they came
}

func newScripted(t testing.TB, reference bool) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &scripted{t: t, l: l, reference: reference}
}

// connection is one that a worker has made.
type connection struct {
	*wire.Conn
	t testing.TB
}

// accept waits for a worker that greets and asks for a build of platform p.
func (s *scripted) accept() *connection {
	s.t.Helper()
	for {
		c := s.greet()
		if c == nil {
			continue
		}
		if m := c.receive(wire.KindJobRequested).(wire.JobRequested); m.Platform != "p" {
			s.t.Fatalf("a build of %q was asked for", m.Platform)
		}
		return c
	}
}

// greet takes one connection; it is nil when the worker was sent away.
func (s *scripted) greet() *connection {
	s.t.Helper()
	s.l.(*net.TCPListener).SetDeadline(time.Now().Add(deadline))
	nc, err := s.l.Accept()
	if err != nil {
		s.t.Fatalf("no worker comes: %v", err)
	}
	c := &connection{wire.NewConn(nc, nil), s.t}
	s.t.Cleanup(func() { c.Close() })
	hello := c.receive(wire.KindClientHello).(wire.ClientHello)
	s.hellos = append(s.hellos, hello.Version)
	switch {
	case hello.Version == wire.WorkerVersion:
		c.send(wire.ServerHello{})
	case s.reference:
		c.Close()
		return nil
	default:
		c.send(wire.Welcome{Version: wire.OwnVersion, Capabilities: []string{wire.CapBuild}})
		c.receive(wire.KindIntroduce)
	}
	return c
}

func (c *connection) send(m wire.Message) {
	c.t.Helper()
	if err := c.Send(m); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

func (c *connection) receive(kinds ...wire.Kind) wire.Message {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	m, err := c.Receive(ctx, kinds...)
	if err != nil {
		c.t.Fatalf("receiving: %v", err)
	}
	return m
}

// gone waits for the end of the connection.
func (c *connection) gone() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	for {
		_, err := c.Receive(ctx, wire.KindLines, wire.KindOutput)
		if ctx.Err() != nil || errors.Is(err, wire.ErrUnexpected) {
			c.t.Fatalf("the connection does not end: %v", err)
		}
		if err != nil {
			return
		}
	}
}

// start hands out a build of our own version.
func (c *connection) start(script string) uuid.UUID {
	c.t.Helper()
	id := uuid.New()
	c.send(wire.Start{Build: wire.BuildStatus{UUID: id, Job: "one", Platform: "p"}, Script: []byte(script)})
	return id
}

// ended is what a worker tells of a build.
type ended struct {
	result  job.Result
	lines   []job.Line
	partial []string
	notes   []string
	files   map[string]string
	took    time.Duration
}

// text is the console as people see it.
func (e ended) text() string {
	var all []string
	for _, line := range e.lines {
		all = append(all, string(line.Data))
	}
	return strings.Join(all, "\n")
}

// finish takes all of a build, of either protocol.
func (c *connection) finish(id uuid.UUID) ended {
	c.t.Helper()
	e := ended{files: map[string]string{}}
	for {
		switch m := c.receive(wire.KindLines, wire.KindOutput, wire.KindFinish, wire.KindJobFinished).(type) {
		case wire.Output:
			e.lines = append(e.lines, job.Line{Data: bytes.Clone(m.Data)})
		case wire.Lines:
			if m.UUID != id || m.From != int64(len(e.lines)) {
				c.t.Errorf("lines of %v from %d, expected %v from %d", m.UUID, m.From, id, len(e.lines))
			}
			for _, many := range m.Lines {
				many.Data = bytes.Clone(many.Data)
				if many.Flags&job.Partial != 0 {
					e.partial = append(e.partial, string(many.Data))
				} else {
					e.lines = slices.AppendSeq(e.lines, many.Each())
				}
			}
		case *wire.Incoming:
			if m.UUID != id {
				c.t.Errorf("the end of %v, expected %v", m.UUID, id)
			}
			e.result, e.notes, e.took = m.Result, m.Notes, m.Duration
			for {
				file, err := m.Files.Next()
				if errors.Is(err, io.EOF) {
					return e
				}
				if err != nil {
					c.t.Fatalf("receiving artifacts: %v", err)
				}
				content, err := io.ReadAll(file.Data)
				if err != nil {
					c.t.Fatalf("receiving %s: %v", file.Path, err)
				}
				e.files[file.Path] = string(content)
			}
		}
	}
}

// working is a worker under test.
type working struct {
	log         *logged
	drain, kill context.CancelFunc
	done        chan error
	dir         *worker.Directory
}

// work runs a persistent worker until the end of the test, which checks that
// nothing of a build is left.
func work(t testing.TB, s *scripted, options ...func(*worker.Config)) *working {
	t.Helper()
	dir, err := worker.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	place, err := sandbox.NewPlain(dir.Builds(), 1)
	if err != nil {
		t.Fatal(err)
	}
	w := &working{log: &logged{}, done: make(chan error, 1), dir: dir}
	config := worker.Config{
		Platform: "p", Remote: s.l.Addr().String(), Dir: dir, Persistent: true, Sandbox: place, Log: zerolog.New(w.log),
	}
	for _, option := range options {
		option(&config)
	}
	ctx, kill := context.WithCancel(context.Background())
	drain, stop := context.WithCancel(ctx)
	w.drain, w.kill = stop, kill
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		w.done <- worker.Run(ctx, drain, config)
	}()
	t.Cleanup(func() {
		kill()
		<-ran
		if err := errors.Join(place.Close(), dir.Close()); err != nil {
			t.Errorf("closing: %v", err)
		}
		if left, err := os.ReadDir(dir.Builds()); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
		if t.Failed() {
			t.Logf("the worker's log:\n%s", w.log)
		}
	})
	return w
}

// over waits for the worker's end.
func (w *working) over(t testing.TB) {
	t.Helper()
	select {
	case err := <-w.done:
		if err != nil {
			t.Errorf("worker: %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("the worker does not end")
	}
}

// waitFile waits for a file that a script writes and returns its content.
func waitFile(t testing.TB, name string) string {
	t.Helper()
	var data []byte
	wait(t, filepath.Base(name), func() bool {
		var err error
		data, err = os.ReadFile(name)
		return err == nil && len(data) > 0
	})
	return strings.TrimSpace(string(data))
}
