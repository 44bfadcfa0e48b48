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

// TestMain lets the test binary be the supervisor of its builds, and a worker that
// can be killed.
func TestMain(m *testing.M) {
	if sandbox.IsSupervisor() {
		if err := sandbox.Supervise(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv("WORKER_TEST_DIR"); dir != "" {
		if err := workerProcess(dir, os.Getenv("WORKER_TEST_REMOTE")); err != nil {
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

// scripted is a server that says what a test wants, and remembers what it was
// told. A reference server ends the connection of who greets it with our own
// version.
type scripted struct {
	t         testing.TB
	l         net.Listener
	reference bool
	lacks     string  // a capability
	hellos    []int64 // versions, in the order in which they came
	builds    map[uuid.UUID]*ended

	connections []*connection
}

func newScripted(t testing.TB, reference bool) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{t: t, l: l, reference: reference, builds: map[uuid.UUID]*ended{}}
	t.Cleanup(func() {
		l.Close()
		for _, c := range s.connections {
			c.Close()
		}
	})
	return s
}

// connection is one that a worker has made.
type connection struct {
	*wire.Conn
	t       testing.TB
	s       *scripted
	version int64
	wishes  int // that were not answered yet
	held    []wire.Held
}

// accept waits for a worker that greets, lets what it holds go on, and waits until
// it asks for a build.
func (s *scripted) accept() *connection {
	s.t.Helper()
	for {
		c := s.greet()
		if c == nil {
			continue
		}
		if c.version == wire.OwnVersion {
			c.resume(nil)
		}
		c.wish()
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
	c := &connection{Conn: wire.NewConn(nc, nil), t: s.t, s: s}
	s.connections = append(s.connections, c)
	hello := c.receive(wire.KindClientHello).(wire.ClientHello)
	c.version = hello.Version
	s.hellos = append(s.hellos, hello.Version)
	switch {
	case hello.Version == wire.WorkerVersion:
		c.send(wire.ServerHello{})
	case s.reference:
		c.Close()
		return nil
	default:
		capabilities := slices.DeleteFunc([]string{wire.CapBuild, wire.CapResume, wire.CapAlive}, func(name string) bool { return name == s.lacks })
		c.send(wire.Welcome{Version: wire.OwnVersion, Program: "scripted 1", Capabilities: capabilities})
		peer := c.receive(wire.KindIntroduce).(wire.Introduce)
		if !slices.Contains(peer.Capabilities, wire.CapResume) || peer.ID == "" {
			s.t.Errorf("introduced as %+v", peer)
		}
		c.KeepAlive(time.Hour, time.Hour)
	}
	return c
}

// resume lets what the worker holds go on, but for builds that are over.
func (c *connection) resume(over map[uuid.UUID]string) {
	c.t.Helper()
	c.held = c.receive(wire.KindHolding).(wire.Holding).Builds
	var m wire.Resume
	for _, held := range c.held {
		m.Builds = append(m.Builds, wire.Resumption{
			UUID: held.UUID, From: int64(len(c.s.build(held.UUID).lines)), Over: over[held.UUID],
		})
	}
	c.send(m)
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
		_, err := c.Receive(ctx, wire.KindLines, wire.KindOutput, wire.KindJobRequested, wire.KindDone)
		if ctx.Err() != nil || errors.Is(err, wire.ErrUnexpected) {
			c.t.Fatalf("the connection does not end: %v", err)
		}
		if err != nil {
			return
		}
	}
}

// wish waits until a build is asked for.
func (c *connection) wish() {
	c.t.Helper()
	c.until(func() bool { return c.wishes > 0 })
}

// start hands out a build of our own version.
func (c *connection) start(script string, limits ...job.Limits) uuid.UUID {
	c.t.Helper()
	id := uuid.New()
	m := wire.Start{Build: wire.BuildStatus{UUID: id, Job: "one", Platform: "p"}, Script: []byte(script)}
	if len(limits) > 0 {
		m.Limits = limits[0]
	}
	c.wishes--
	c.send(m)
	return id
}

// ended is what a worker has told of a build.
type ended struct {
	over      bool
	result    job.Result
	lines     []job.Line
	partial   []string
	notes     []string
	artifacts []job.Artifact
	files     map[string]string
	took      time.Duration
	again     int // lines that came again
	dones     int
}

func (s *scripted) build(id uuid.UUID) *ended {
	if s.builds[id] == nil {
		s.builds[id] = &ended{files: map[string]string{}}
	}
	return s.builds[id]
}

// text is the console as people see it.
func (e *ended) text() string {
	var all []string
	for _, line := range e.lines {
		all = append(all, string(line.Data))
	}
	return strings.Join(all, "\n")
}

// until takes what comes until done.
func (c *connection) until(done func() bool) {
	c.t.Helper()
	for !done() {
		c.take()
	}
}

// take takes one message, of either protocol.
func (c *connection) take() {
	c.t.Helper()
	switch m := c.receive(wire.KindLines, wire.KindOutput, wire.KindDone, wire.KindJobFinished, wire.KindJobRequested).(type) {
	case wire.JobRequested:
		if m.Platform != "p" {
			c.t.Errorf("a build of %q was asked for", m.Platform)
		}
		c.wishes++
	case wire.Output:
		e := c.s.build(m.UUID)
		e.lines = append(e.lines, job.Line{Data: bytes.Clone(m.Data)})
	case wire.Lines:
		c.s.build(m.UUID).add(c.t, m)
	case wire.Done:
		e := c.s.build(m.UUID)
		e.over, e.result, e.notes, e.took, e.artifacts = true, m.Result, m.Notes, m.Duration, m.Artifacts
		e.dones++
		if m.Lines != int64(len(e.lines)) {
			c.t.Errorf("%d lines are said to have been sent, %d came", m.Lines, len(e.lines))
		}
	case *wire.Incoming:
		e := c.s.build(m.UUID)
		e.over, e.result = true, m.Result
		for {
			file, err := m.Files.Next()
			if errors.Is(err, io.EOF) {
				return
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

func (e *ended) add(t testing.TB, m wire.Lines) {
	t.Helper()
	have, at := int64(len(e.lines)), m.From
	if at > have {
		t.Errorf("lines from %d on, %d are there", m.From, have)
	}
	for _, many := range m.Lines {
		many.Data = bytes.Clone(many.Data)
		if many.Flags&job.Partial != 0 {
			e.partial = append(e.partial, string(many.Data))
			continue
		}
		for line := range many.Each() {
			if at >= have {
				e.lines = append(e.lines, line)
			} else {
				e.again++
			}
			at++
		}
	}
}

// finish takes all of a build: our own version's artifacts over a connection of
// their own.
func (c *connection) finish(id uuid.UUID) *ended {
	c.t.Helper()
	e := c.s.build(id)
	c.until(func() bool { return e.over })
	if len(e.artifacts) > 0 {
		c.send(wire.Want{UUID: id})
		bulk := c.s.bulk(id)
		contents := bulk.fetch(id)
		bulk.send(wire.Success{})
		for _, a := range e.artifacts {
			if content, ok := contents[a.Content]; ok {
				e.files[a.Path] = content
			}
		}
	}
	return e
}

// store takes all of a build, and tells the worker so.
func (c *connection) store(id uuid.UUID) *ended {
	c.t.Helper()
	e := c.finish(id)
	c.send(wire.Stored{UUID: id})
	return e
}

// bulk takes the connection that delivers a build.
func (s *scripted) bulk(id uuid.UUID) *connection {
	s.t.Helper()
	c := s.greet()
	if m := c.receive(wire.KindDeliver).(wire.Deliver); m.UUID != id {
		s.t.Errorf("%v is delivered, expected %v", m.UUID, id)
	}
	return c
}

// fetch asks for all contents of a build; missing ones are not in what it returns.
func (c *connection) fetch(id uuid.UUID) map[job.Content]string {
	c.t.Helper()
	want := wire.Want{UUID: id}
	for _, a := range c.s.build(id).artifacts {
		if !slices.ContainsFunc(want.Contents, func(w wire.Wanted) bool { return w.Content == a.Content }) {
			want.Contents = append(want.Contents, wire.Wanted{Content: a.Content})
		}
	}
	c.send(want)
	contents := map[job.Content]string{}
	for _, wanted := range want.Contents {
		switch m := c.receive(wire.KindContent, wire.KindMissing).(type) {
		case *wire.IncomingContent:
			octets, err := io.ReadAll(m)
			if err != nil {
				c.t.Fatalf("receiving %v: %v", m.Content, err)
			}
			if m.Content != wanted.Content || job.ContentOf(octets) != wanted.Content {
				c.t.Errorf("content %v of %d octets came, expected %v", m.Content, len(octets), wanted.Content)
			}
			contents[m.Content] = string(octets)
		case wire.Missing:
			if m.Content != wanted.Content || m.Reason == "" {
				c.t.Errorf("missing is %+v, expected %v", m, wanted.Content)
			}
		}
	}
	return contents
}

// working is a worker under test.
type working struct {
	log         *logged
	drain, kill context.CancelFunc
	done        chan error
	dir         *worker.Directory
	leaves      bool // a build that is not delivered
}

// work runs a persistent worker until the end of the test, which checks that
// nothing of a build is left.
func work(t testing.TB, s *scripted, options ...func(*worker.Config)) *working {
	t.Helper()
	return workIn(t, t.TempDir(), s, options...)
}

// workIn does that in a directory.
func workIn(t testing.TB, path string, s *scripted, options ...func(*worker.Config)) *working {
	t.Helper()
	dir, err := worker.OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	place, err := sandbox.NewPlain(dir.Builds(), 0) // supervisors when they are needed
	if err != nil {
		t.Fatal(err)
	}
	w := &working{log: &logged{}, done: make(chan error, 1), dir: dir}
	config := worker.Config{
		Platform: "p", Remote: s.l.Addr().String(), Dir: dir, Persistent: true, Sandbox: place, Log: zerolog.New(w.log),
		MaxDelay: 50 * time.Millisecond,
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
		if !w.leaves && !t.Failed() {
			w.stored(t)
		}
		s.l.Close() // a worker that ends does not wait for it
		kill()
		<-ran
		if err := errors.Join(place.Close(), dir.Close()); err != nil {
			t.Errorf("closing: %v", err)
		}
		for _, path := range []string{dir.Builds(), filepath.Join(dir.Path, "spool")} {
			if left, err := os.ReadDir(path); !w.leaves && (err != nil || len(left) > 0) {
				t.Errorf("left behind: %v (%v)", left, err)
			}
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

// stored waits until nothing is held.
func (w *working) stored(t testing.TB) {
	t.Helper()
	wait(t, "all is stored", func() bool { return len(spooled(t, w.dir.Path, false)) == 0 })
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
