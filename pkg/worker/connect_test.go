package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// TestFallback works for a server of the reference: one build per connection,
// whole lines only, and its results as the reference's worker tells them.
func TestFallback(t *testing.T) {
	s := newScripted(t, true)
	work(t, s)
	for i, tt := range []struct {
		script, console string
		result          job.Result
	}{
		{"printf part; sleep 0.3; echo ially; printf last", "partially\nlast", job.Result{Kind: job.Exited}},
		{"kill -TERM $$", "", job.Result{Kind: job.Exited, Code: 128 + 15}},
	} {
		c := s.accept()
		id := uuid.New()
		c.send(wire.JobSchedule{UUID: id, Job: wire.ScriptJob{Name: "one", Platform: "p", Script: wire.Blob{Data: []byte(tt.script)}}})
		e := c.finish(id)
		c.gone()
		if e.text() != tt.console || e.result != tt.result {
			t.Errorf("%q gave %q, %v", tt.script, e.text(), e.result)
		}
		if diff := cmp.Diff([]int64{wire.OwnVersion, wire.OwnVersion, wire.WorkerVersion}, s.hellos[3*i:]); diff != "" {
			t.Errorf("hellos (-want +got):\n%s", diff)
		}
	}
}

// TestKnownOwn: a server that has spoken our own version once is never spoken to
// in another, not by a later process either.
func TestKnownOwn(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	w := work(t, s)
	s.accept().Close()
	s.reference = true
	for range 2 {
		if s.greet() != nil {
			t.Fatal("the worker fell back")
		}
	}
	if diff := cmp.Diff([]int64{1001, 1001, 1001}, s.hellos); diff != "" {
		t.Errorf("hellos (-want +got):\n%s", diff)
	}
	w.kill()
	w.over(t)
	copied := t.TempDir() // as a later process finds it
	if err := os.CopyFS(copied, os.DirFS(w.dir.Path)); err != nil {
		t.Fatal(err)
	}
	again, err := worker.OpenDirectory(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !again.KnownOwn(s.l.Addr().String()) || again.KnownOwn("other:1234") || again.ID != w.dir.ID {
		t.Errorf("remembered: %+v, expected the identity %v", again, w.dir.ID)
	}
}

// TestPauses: attempts to connect come after growing pauses, with an end to the
// growth.
func TestPauses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nobody listens there now
	dir, err := worker.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	place, err := sandbox.NewPlain(dir.Builds(), 0)
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := worker.Run(ctx, ctx, worker.Config{Platform: "p", Remote: address, Dir: dir, Persistent: true, Sandbox: place, Log: zerolog.New(log)}); err != nil {
			t.Errorf("running: %v", err)
		}
	})
	var pauses []float64 // milliseconds
	for line := range strings.Lines(log.String()) {
		var entry struct{ Retry float64 }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		pauses = append(pauses, entry.Retry)
	}
	most := 1000.0
	for i, pause := range pauses {
		if pause > most || pause < most*2/3 {
			t.Errorf("pause %d lasts %v ms, expected between %v and %v", i+1, pause, most*2/3, most)
		}
		most = min(1.5*most, 60_000)
	}
	if len(pauses) < 10 || len(pauses) > 30 {
		t.Errorf("%d attempts in ten minutes", len(pauses))
	}
}

// TestRefused: a server that refuses the platform is asked again later.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	c.send(wire.Failure{Text: "platform is dropped"})
	c.gone()
	s.accept()
	if !strings.Contains(w.log.String(), "platform is dropped") {
		t.Error("the reason is not logged")
	}
}

// TestDismissed: a worker that the server will never take ends, and says why.
func TestDismissed(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	c.send(wire.Dismissed{Text: "platform p is not allowed"})
	c.gone()
	select {
	case err := <-w.done:
		if err == nil || !strings.Contains(err.Error(), "platform p is not allowed") {
			t.Errorf("the worker ends with %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("the worker does not end")
	}
}

// TestGivingUp: which attempts count for a worker that gives up after one that failed
// behind another.
func TestGivingUp(t *testing.T) {
	for name, tt := range map[string]struct {
		runs    bool // a script, meanwhile
		attempt func(c *connection)
		gives   string // up, and says this
	}{
		"refused": {false, func(c *connection) {
			c.resume(nil)
			c.send(wire.Failure{Text: "dropped"})
			c.gone()
		}, "2 attempts have failed, the last one: refused by the server: dropped"},
		"broken while it greets": {false, func(*connection) {}, "2 attempts have failed"},
		"broken later":           {false, func(c *connection) { c.resume(nil); c.wish() }, ""},
		"each second one": {false, func(c *connection) {
			c.Close()
			c = c.s.greet()
			c.resume(nil)
			c.wish()
			c.Close()
		}, ""},
		"asked to come later": {false, func(c *connection) {
			c.receive(wire.KindHolding)
			c.send(wire.Later{After: time.Millisecond})
			c.gone()
		}, ""},
		"while a script runs": {true, func(*connection) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			w := work(t, s, func(c *worker.Config) { c.MaxRetries = 1 })
			c := s.accept()
			id, finish := uuid.Nil, func() {}
			if tt.runs {
				var script string
				script, finish = gated(t)
				id = c.start(script)
				c.until(func() bool { return len(s.build(id).lines) == 2 })
			}
			c.Close()
			attempts := 5
			if tt.gives != "" {
				attempts = 2
			}
			for range attempts {
				c := s.greet()
				tt.attempt(c)
				c.Close()
			}
			if tt.gives != "" {
				if err := <-w.done; !errors.Is(err, worker.ErrAway) || !strings.Contains(err.Error(), tt.gives) {
					t.Errorf("error %v", err)
				}
				return
			}
			c = s.greet()
			c.resume(nil)
			finish()
			if tt.runs {
				c.store(id)
			}
			c.wish()
		})
	}
}

// TestOnce: by default a worker does one build and ends, whatever its result.
func TestOnce(t *testing.T) {
	for name, reference := range map[string]bool{"our own": false, "reference": true} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t, reference)
			w := work(t, s, func(c *worker.Config) { c.Persistent = false })
			c := s.accept()
			if reference {
				id := uuid.New()
				c.send(wire.JobSchedule{UUID: id, Job: wire.ScriptJob{Name: "one", Script: wire.Blob{Data: []byte("exit 1")}}})
				c.finish(id)
			} else {
				c.store(c.start("exit 1"))
			}
			w.over(t)
			c.gone()
		})
	}
}

// TestDrain ends workers that wait: for a build, for a connection, and for the
// next attempt at one.
func TestDrain(t *testing.T) {
	t.Run("waiting for a build", func(t *testing.T) {
		s := newScripted(t, false)
		w := work(t, s)
		c := s.accept()
		w.drain()
		c.gone()
		s.greet().resume(nil) // so the server knows that nothing was received
		w.over(t)
	})
	t.Run("greeting", func(t *testing.T) {
		s := newScripted(t, false) // accepts nothing: the system does
		w := work(t, s)
		w.drain()
		w.over(t)
	})
	t.Run("pausing", func(t *testing.T) {
		s := newScripted(t, false)
		s.l.Close()
		w := work(t, s)
		wait(t, "the pause", func() bool { return strings.Contains(w.log.String(), "retry") })
		w.drain()
		w.over(t)
	})
}

// TestDirectory: one process at a time uses a directory.
func TestDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "directory")
	d, err := worker.OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := worker.OpenDirectory(path); err == nil {
		second.Close()
		t.Error("opened twice")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestClaim: places of one kind of isolation are not for another one to sweep.
func TestClaim(t *testing.T) {
	path := t.TempDir()
	place := filepath.Join(path, "builds", "place")
	for i, test := range []struct {
		kind          string
		place, refuse bool
	}{
		{"none", true, false}, // by an earlier version
		{"none", false, false},
		{"jail", false, false},
		{"jail", true, false},
		{"none", true, true},
		{"jail", true, false},
		{"none", false, false},
	} {
		if err := os.RemoveAll(place); err != nil {
			t.Fatal(err)
		}
		if test.place {
			if err := os.MkdirAll(place, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		d, err := worker.OpenDirectory(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Claim(test.kind); (err != nil) != test.refuse || err != nil && !strings.Contains(err.Error(), "places of isolation jail") {
			t.Errorf("%d: %s: %v", i, test.kind, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
