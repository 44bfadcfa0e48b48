package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/schedule"
	"builder/pkg/server"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// TestMain lets the test binary be the supervisor of the builds in the tests.
func TestMain(m *testing.M) {
	if sandbox.IsSupervisor() {
		if err := sandbox.Supervise(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	status := m.Run()
	if programDir != "" {
		os.RemoveAll(programDir)
	}
	os.Exit(status)
}

// deadline is how long tests wait for what must happen soon.
const deadline = 10 * time.Second

// wait polls until done, and fails the test after the deadline.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// logged keeps what a program says.
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

// count is how many lines hold all of the texts.
func (l *logged) count(texts ...string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			n++
		}
	}
	return n
}

// running is a server on a directory of its own, which may be restarted.
type running struct {
	t       testing.TB
	config  server.Config
	log     *logged
	address string
	stop    context.CancelFunc // nil when it does not run
	served  chan error
	server  *server.Server
	asking  *client.Client // by the test's own goroutine
}

// start runs a server with short times. It ends with the test, which also
// checks that no goroutine is left.
func start(t testing.TB, options ...func(*server.Config)) *running {
	t.Helper()
	before := runtime.NumGoroutine()
	r := configure(t, options...)
	t.Cleanup(func() {
		r.halt()
		wait(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before })
		if t.Failed() {
			t.Logf("the server's log:\n%s", r.log)
		}
	})
	r.start()
	return r
}

// configure makes one that is not started.
func configure(t testing.TB, options ...func(*server.Config)) *running {
	r := &running{t: t, log: &logged{}}
	r.config = server.Config{
		Dir: t.TempDir(), ConfigDir: t.TempDir(), Timeout: deadline, Grace: 200 * time.Millisecond,
		Retries: schedule.Retries{Max: 3, First: time.Millisecond, Most: 10 * time.Millisecond},
		Program: "test", Log: zerolog.New(r.log),
	}
	for _, option := range options {
		option(&r.config)
	}
	return r
}

func (r *running) start() {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.startOn(l)
}

func (r *running) startOn(l net.Listener) {
	r.t.Helper()
	s, err := server.Open(r.config)
	if err != nil {
		l.Close()
		r.t.Fatalf("opening: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.server, r.address, r.stop, r.served, r.asking = s, l.Addr().String(), stop, make(chan error, 1), nil
	go func() { r.served <- s.Serve(ctx, l) }()
}

// halt stops the server as SIGTERM does.
func (r *running) halt() {
	r.t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	select {
	case err := <-r.served:
		if err != nil {
			r.t.Errorf("serving: %v", err)
		}
	case <-time.After(deadline):
		stacks := make([]byte, 1<<20)
		r.t.Fatalf("the server does not end:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	if err := r.server.Close(); err != nil {
		r.t.Errorf("closing: %v", err)
	}
}

func (r *running) restart() {
	r.t.Helper()
	r.halt()
	r.start()
}

// template writes a template into the configuration directory.
func (r *running) template(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.config.ConfigDir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// client is a client of our own version, for the test's own goroutine.
func (r *running) client() *client.Client {
	if r.asking == nil {
		r.asking = r.newClient()
	}
	return r.asking
}

func (r *running) newClient() *client.Client {
	c := client.New(r.address, client.Options{Protocol: wire.OwnVersion})
	r.t.Cleanup(func() { c.Close() })
	return c
}

// schedule adds a job that runs only when asked, and at once.
func (r *running) schedule(name, platform, script string) wire.Accepted {
	r.t.Helper()
	accepted, err := r.client().Schedule(r.t.Context(), job.Job{Name: name, Platform: platform}, []byte(script), job.Plan{Period: job.Never}, false)
	if err != nil {
		r.t.Fatalf("scheduling: %v", err)
	}
	return accepted
}

// define adds a job of platform p that is due by a cron expression, or every so
// many minutes.
func (r *running) define(name, script, cron string, minutes int) {
	r.t.Helper()
	plan := job.Plan{Period: job.Never, Cron: cron, Every: time.Duration(minutes) * time.Minute}
	if _, err := r.client().Schedule(r.t.Context(), job.Job{Name: name, Platform: "p"}, []byte(script), plan, false); err != nil {
		r.t.Fatalf("scheduling: %v", err)
	}
}

func (r *running) execute(name string) wire.Accepted {
	r.t.Helper()
	accepted, err := r.client().Execute(r.t.Context(), name, "")
	if err != nil {
		r.t.Fatalf("executing: %v", err)
	}
	return accepted
}

func (r *running) status() wire.StatusReply {
	r.t.Helper()
	status, err := r.client().Status(r.t.Context())
	if err != nil {
		r.t.Fatalf("status: %v", err)
	}
	return status
}

// platform is what Status shows of one.
func (r *running) platform(name string) wire.PlatformStatus {
	r.t.Helper()
	for _, p := range r.status().Platforms {
		if p.Name == name {
			return p
		}
	}
	return wire.PlatformStatus{}
}

// waiting waits until so many workers of the platform wait.
func (r *running) waiting(platform string, n int) {
	r.t.Helper()
	wait(r.t, fmt.Sprintf("%d workers of %s", n, platform), func() bool {
		idle := 0
		for _, w := range r.platform(platform).Workers {
			if w.Build == uuid.Nil {
				idle++
			}
		}
		return idle == n
	})
}

// builds are those that have ended, the newest first.
func (r *running) builds(name string) []job.Build {
	r.t.Helper()
	builds, err := r.client().Builds(r.t.Context(), name, 10_000)
	if err != nil {
		r.t.Fatalf("listing builds: %v", err)
	}
	return builds
}

// ended waits until the job has so many builds that have ended.
func (r *running) ended(name string, n int) []job.Build {
	r.t.Helper()
	var builds []job.Build
	wait(r.t, fmt.Sprintf("%d builds of %s", n, name), func() bool {
		builds = r.builds(name)
		return len(builds) >= n
	})
	if len(builds) != n {
		r.t.Fatalf("%d builds of %s, expected %d", len(builds), name, n)
	}
	return builds
}

// worker runs a real worker, for builds as plain processes, until the test ends.
func (r *running) worker(platform string, options ...func(*worker.Config)) {
	r.t.Helper()
	dir, err := worker.OpenDirectory(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	place, err := sandbox.NewPlain(dir.Builds(), 1)
	if err != nil {
		r.t.Fatal(err)
	}
	config := worker.Config{
		Platform: platform, Remote: r.address, Dir: dir, Persistent: true, Sandbox: place, Log: zerolog.New(r.log), Program: "test",
	}
	for _, option := range options {
		option(&config)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx, ctx, config) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			r.t.Errorf("worker: %v", err)
		}
		if err := errors.Join(place.Close(), dir.Close()); err != nil {
			r.t.Errorf("closing the worker: %v", err)
		}
	})
}

// peer is a connection on which a test says what it likes.
type peer struct {
	*wire.Conn
	net *net.TCPConn
	t   testing.TB
}

// socket is a connection on which nothing was said yet.
func (r *running) socket() *peer {
	r.t.Helper()
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "tcp", r.address)
	if err != nil {
		r.t.Fatalf("dialing: %v", err)
	}
	p := &peer{wire.NewConn(c, nil), c.(*net.TCPConn), r.t}
	r.t.Cleanup(func() { p.Close() })
	return p
}

func (r *running) dial(role wire.Role, version int64) *peer {
	r.t.Helper()
	p := r.socket()
	p.send(wire.ClientHello{Role: role, Version: version})
	p.receive(wire.KindServerHello, wire.KindWelcome)
	if version >= wire.OwnVersion {
		p.send(wire.Introduce{Name: "tester"})
	}
	return p
}

// raw writes octets past the protocol.
func (p *peer) raw(octets []byte) {
	p.t.Helper()
	if _, err := p.net.Write(octets); err != nil {
		p.t.Fatalf("writing: %v", err)
	}
}

// requested is a worker that has asked for a build.
func (r *running) requested(version int64, platform string) *peer {
	r.t.Helper()
	p := r.dial(wire.Worker, version)
	p.send(wire.JobRequested{Platform: platform})
	return p
}

func (p *peer) send(m wire.Message) {
	p.t.Helper()
	if err := p.Send(m); err != nil {
		p.t.Fatalf("sending: %v", err)
	}
}

// receive returns the next message, which must be of one of the kinds.
func (p *peer) receive(kinds ...wire.Kind) wire.Message {
	p.t.Helper()
	m, err := p.tryReceive(kinds...)
	if err != nil {
		p.t.Fatalf("receiving: %v", err)
	}
	return m
}

func (p *peer) tryReceive(kinds ...wire.Kind) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	return p.Receive(ctx, kinds...)
}

// job is what a worker of protocol 5 is given.
func (p *peer) job() wire.JobSchedule {
	p.t.Helper()
	m := p.receive(wire.KindJobSchedule).(wire.JobSchedule)
	m.Job.Script.Data = bytes.Clone(m.Job.Script.Data)
	return m
}

// begin is what a worker of ours is given.
func (p *peer) begin() wire.Start {
	p.t.Helper()
	m := p.receive(wire.KindStart).(wire.Start)
	m.Script = bytes.Clone(m.Script)
	return m
}

// gone waits for the end of the connection.
func (p *peer) gone() {
	p.t.Helper()
	_, err := p.tryReceive()
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, wire.ErrUnexpected) {
		p.t.Fatalf("the connection should have ended: %v", err)
	}
}

// done expects Success, fails a Failure.
func (p *peer) done() {
	p.t.Helper()
	if m, failed := p.receive(wire.KindSuccess, wire.KindFailure).(wire.Failure); failed {
		p.t.Fatalf("refused: %s", m.Text)
	}
}

// legacy does one request of protocol 13 and returns the server's refusal.
func (r *running) legacy(m wire.Message) string {
	r.t.Helper()
	p := r.dial(wire.Client, wire.ClientVersion)
	p.send(m)
	answer := p.receive(wire.KindSuccess, wire.KindFailure)
	p.gone()
	if failure, failed := answer.(wire.Failure); failed {
		return failure.Text
	}
	return ""
}

// text is a file's content in a message.
func text(s string) wire.Blob { return wire.Blob{Data: []byte(s)} }

// exported is the result file of a build, decoded and as it is.
type exported struct {
	wire.Exec
	Lines []string
	Files map[string]string
	Raw   []byte
}

func (r *running) export(id uuid.UUID) exported {
	r.t.Helper()
	var out bytes.Buffer
	if err := r.client().Export(r.t.Context(), id.String(), &out); err != nil {
		r.t.Fatalf("exporting: %v", err)
	}
	return decode(r.t, out.Bytes())
}

func decode(t testing.TB, raw []byte) exported {
	t.Helper()
	e := exported{Raw: raw, Files: map[string]string{}}
	var err error
	e.Exec, err = wire.ReadExec(bytes.NewReader(raw), int64(len(raw)), wire.ExecVisitor{
		Line: func(_ time.Duration, data io.Reader, _ int64) error {
			line, err := io.ReadAll(data)
			e.Lines = append([]string{string(line)}, e.Lines...) // the file has the newest first
			return err
		},
		File: func(path string, data io.Reader, _ int64) error {
			content, err := io.ReadAll(data)
			e.Files[path] = string(content)
			return err
		},
	})
	if err != nil {
		t.Fatalf("reading the result file: %v", err)
	}
	return e
}
