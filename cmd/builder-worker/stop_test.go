package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// TestSignals sends signals to a real worker that runs a build: after one it waits
// for its end, after two it ends it; both times it delivers that and exits well.
func TestSignals(t *testing.T) {
	for name, tt := range map[string]struct {
		script  string
		signals int
		result  job.Result
	}{
		"one": {"echo x; sleep 0.5; exit 3", 1, job.Result{Kind: job.Exited, Code: 3}},
		"two": {"echo x; sleep 1000", 2, job.Failure(job.ShutDown, "worker shut down")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "p", "-r", l.Addr().String(), "--dir", t.TempDir(), "--name", "test")
			cmd.Env = append(os.Environ(), "BUILDER_WORKER_TEST=1")
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			c, id := handOut(t, l, tt.script)
			receive(t, c, wire.KindLines)
			log := bufio.NewScanner(stderr)
			for range tt.signals {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				// Two that are sent at once may arrive as one.
				for log.Scan() && !strings.Contains(log.Text(), `"signal":"terminated"`) {
				}
			}
			var rest errgroup.Group
			rest.Go(func() error { _, err := io.Copy(io.Discard, stderr); return err })
			done := receive(t, c, wire.KindDone).(wire.Done)
			if diff := cmp.Diff(tt.result, done.Result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if err := c.Send(wire.Stored{UUID: id}); err != nil {
				t.Fatal(err)
			}
			if err := rest.Wait(); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the worker: %v", err)
			}
		})
	}
}

// TestTouched: what of the shutdown file ends a worker.
func TestTouched(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stop")
	write := func(day int) {
		at := time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
		if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, was time.Time, want bool) {
		t.Helper()
		if got := touched(file, was); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	none := fileTime(file)
	expect("is not there", none, false)
	write(2)
	expect("appears", none, true)
	was := fileTime(file)
	expect("stays", was, false)
	write(3)
	expect("is newer", was, true)
	write(1)
	expect("is older", was, true)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("is removed", was, false)
}

// handOut gives a build to the worker that comes.
func handOut(t *testing.T, l net.Listener, script string) (*wire.Conn, uuid.UUID) {
	t.Helper()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := wire.NewConn(nc, nil)
	t.Cleanup(func() { c.Close() })
	welcome := wire.Welcome{Capabilities: []string{wire.CapBuild, wire.CapResume, wire.CapAlive}}
	if _, err := wire.Accept(t.Context(), c, welcome); err != nil {
		t.Fatal(err)
	}
	c.KeepAlive(time.Minute, time.Minute)
	receive(t, c, wire.KindHolding)
	if err := c.Send(wire.Resume{}); err != nil {
		t.Fatal(err)
	}
	receive(t, c, wire.KindJobRequested)
	id := uuid.New()
	if err := c.Send(wire.Start{Build: wire.BuildStatus{UUID: id, Job: "one", Platform: "p"}, Script: []byte(script)}); err != nil {
		t.Fatal(err)
	}
	return c, id
}

func receive(t *testing.T, c *wire.Conn, kind wire.Kind) wire.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := c.Receive(ctx, kind)
	if err != nil {
		t.Fatalf("waiting for %v: %v", kind, err)
	}
	return m
}
