package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
		Backoff: schedule.Backoff{First: time.Millisecond, Most: 10 * time.Millisecond},
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
	c := client.New(r.address, client.Options{Protocol: wire.OwnVersion, KeepAlive: r.config.Heartbeat})
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

// notes are those in the record of a build that has ended.
func (r *running) notes(id uuid.UUID) []string {
	r.t.Helper()
	p := r.dial(wire.Client, wire.OwnVersion)
	p.send(wire.Watch{What: id.String()})
	p.receive(wire.KindWatching)
	for {
		if m, ok := p.receive(wire.KindLines, wire.KindEnded).(wire.Ended); ok {
			return m.Build.Notes
		}
	}
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
