package worker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// gated is a script that prints, waits for a file, and prints again.
func gated(t testing.TB) (script string, open func()) {
	gate := filepath.Join(t.TempDir(), "gate")
	return fmt.Sprintf("echo one; echo two; while ! [ -e %s ]; do sleep 0.01; done; echo three; echo kept > kept", gate), func() {
		t.Helper()
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResume: the script runs on while the connection is lost, the lines that the
// server lacks come, its end comes again until it is stored, and a late answer for
// a build that is gone does no harm.
func TestResume(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	script, open := gated(t)
	id := c.start(script)
	e := s.build(id)
	c.until(func() bool { return len(e.lines) == 2 })
	c.Close()
	e.lines = e.lines[:1] // as if the second had not become durable
	c = s.greet()
	c.resume(nil)
	if diff := cmp.Diff([]wire.Held{{UUID: id, Lines: 2}}, c.held); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	c.until(func() bool { return len(e.lines) == 2 })
	c.Close()
	open()
	wait(t, "the end of the script", func() bool { return strings.Contains(w.log.String(), "build ended") })
	c = s.greet()
	c.resume(nil)
	if diff := cmp.Diff([]wire.Held{{UUID: id, Lines: 3, Ended: true}}, c.held); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	c.until(func() bool { return e.dones == 1 })
	c.Close()
	c = s.greet()
	c.resume(nil)
	c.until(func() bool { return e.dones == 2 })
	c.store(id)
	c.send(wire.Stored{UUID: id}) // again
	c.send(wire.Want{UUID: id})
	if e.text() != "one\ntwo\nthree" || e.dones != 2 || e.again > 0 || e.files["kept"] != "kept\n" {
		t.Errorf("console %q, %d ends, %d lines again, files %q", e.text(), e.dones, e.again, e.files)
	}
	c.wish()
	c.store(c.start("echo the next"))
}

// TestRepeat: what the server has lost it is told again.
func TestRepeat(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	id := c.start("seq 100000; seq 3 | tr '\\n' ' '")
	e := s.build(id)
	c.until(func() bool { return e.over })
	whole := e.lines
	for _, have := range []int{0, 1, 49_999, 100_000, 100_001} {
		c.Close()
		e.lines = whole[:have]
		c = s.greet()
		c.resume(nil)
		dones := e.dones
		c.until(func() bool { return e.dones > dones })
		if !slices.EqualFunc(whole, e.lines, func(a, b job.Line) bool {
			return a.Delta == b.Delta && a.Flags == b.Flags && bytes.Equal(a.Data, b.Data)
		}) || e.again > 0 {
			t.Errorf("from %d on %d lines came, %d again", have, len(e.lines), e.again)
		}
	}
	c.store(id)
}

// TestMoreThanHeld: a server may have more of a console than a worker whose power
// was cut.
func TestMoreThanHeld(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	id := c.start("echo one")
	e := s.build(id)
	c.until(func() bool { return e.over })
	c.Close()
	e.lines = append(e.lines, job.Line{Data: []byte("two")})
	c = s.greet()
	c.resume(nil)
	c.until(func() bool { return e.dones == 2 }) // which checks the number of lines
	c.store(id)
}

// TestOver: a build that the server has no use for is stopped if it runs, and set
// aside.
func TestOver(t *testing.T) {
	for name, tt := range map[string]struct{ ended, stored bool }{
		"runs": {}, "has ended": {ended: true}, "is refused": {ended: true, stored: true}, "is refused while it runs": {stored: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			w := work(t, s)
			c := s.accept()
			script, open := gated(t)
			id := c.start("echo x > before; " + script)
			e := s.build(id)
			c.until(func() bool { return len(e.lines) == 2 })
			if tt.ended {
				open()
				c.until(func() bool { return e.over })
			}
			if tt.stored {
				c.send(wire.Stored{UUID: id, Refused: "too late"})
			} else {
				c.Close()
				c = s.greet()
				c.resume(map[uuid.UUID]string{id: "too late"})
			}
			c.wish()
			dir := filepath.Join(w.dir.Path, "rejected", id.String())
			for file, want := range map[string]string{"reason": "too late\n", "artifacts/before": "x\n"} {
				wait(t, file, func() bool {
					got, err := os.ReadFile(filepath.Join(dir, file))
					return err == nil && string(got) == want
				})
			}
			if info, err := os.Stat(filepath.Join(dir, "spool")); err != nil || info.Size() == 0 {
				t.Errorf("the spool: %v", err)
			}
		})
	}
}

// TestRejected: only the latest are kept.
func TestRejected(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	rejected := filepath.Join(w.dir.Path, "rejected")
	for i := range 23 {
		c.wish()
		id := c.start("echo x > file")
		c.until(func() bool { return s.build(id).over })
		c.send(wire.Stored{UUID: id, Refused: fmt.Sprint("reason ", i)})
		wait(t, "the reason", func() bool {
			_, err := os.Stat(filepath.Join(rejected, id.String(), "artifacts"))
			return err == nil
		})
	}
	wait(t, "the oldest are gone", func() bool {
		left, err := os.ReadDir(rejected)
		return err == nil && len(left) == 20
	})
	if !strings.Contains(w.log.String(), "is removed") {
		t.Error("that is not logged")
	}
}

// TestLater: a server that is about to go says when to come again.
func TestLater(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	c.send(wire.Later{After: 10 * time.Millisecond, Reason: "upgrade"})
	c.gone()
	c = s.greet()
	c.receive(wire.KindHolding)
	c.send(wire.Later{After: 20 * time.Millisecond, Reason: "upgrade"})
	c.gone()
	s.accept()
	if log := w.log.String(); !strings.Contains(log, `"retry":10,`) || !strings.Contains(log, `"retry":20,`) || !strings.Contains(log, "upgrade") {
		t.Error("it came at another time")
	}
}

// TestSilent: a server that says nothing at all is left.
func TestSilent(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.KeepAlive = 50 * time.Millisecond })
	s.accept()
	s.accept()
	if !strings.Contains(w.log.String(), wire.ErrSilent.Error()) {
		t.Error("the reason is not logged")
	}
}

// TestOldServer: a server of ours that is too old is told apart, and not tried
// again.
func TestOldServer(t *testing.T) {
	s := newScripted(t, false)
	s.lacks = wire.CapResume
	w := work(t, s, func(c *worker.Config) { c.Program = "worker 2" })
	s.greet()
	select {
	case err := <-w.done:
		for _, word := range []string{"scripted 1", "worker 2", wire.CapResume, "upgrade the server"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("error %v does not say %q", err, word)
			}
		}
	case <-time.After(deadline):
		t.Fatal("the worker does not end")
	}
}

// TestMaxRetries: a worker gives up after so many attempts, if it is told to.
func TestMaxRetries(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
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
		begun := time.Now()
		err := worker.Run(t.Context(), t.Context(), worker.Config{
			Remote: l.Addr().String(), Dir: dir, Persistent: true, Sandbox: place, MaxRetries: 5, MaxDelay: 2 * time.Second, Log: zerolog.New(log),
		})
		if !errors.Is(err, worker.ErrAway) || strings.Count(log.String(), "retry") != 5 {
			t.Errorf("error %v after %s", err, log)
		}
		if took := time.Since(begun); took > 1*time.Second+1500*time.Millisecond+3*2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestSlots: several builds at once, over one connection, each with its own end.
func TestSlots(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.Slots = 3 })
	c := s.accept()
	c.until(func() bool { return c.wishes == 3 })
	var ids []uuid.UUID
	var opens []func()
	for range 3 {
		script, open := gated(t)
		ids, opens = append(ids, c.start(script)), append(opens, open)
	}
	for _, id := range ids {
		c.until(func() bool { return len(s.build(id).lines) == 2 })
	}
	if c.wishes != 0 {
		t.Errorf("%d more builds were asked for", c.wishes)
	}
	opens[1]()
	c.until(func() bool { return s.build(ids[1]).over && c.wishes == 1 })
	c.send(wire.Stop{UUID: ids[2], Result: job.Failure(job.Cancelled, "enough")})
	c.until(func() bool { return s.build(ids[2]).over && c.wishes == 2 })
	// Ends that are not stored do not keep slots, but not for ever: so many more
	// are taken, then none.
	taken := 0
	for ; taken < 4+1; taken++ {
		c.wish()
		id := c.start("true")
		c.until(func() bool { return s.build(id).over })
		ids = append(ids, id)
	}
	wait(t, "no more is asked for", func() bool { return strings.Contains(w.log.String(), "7 builds are not delivered yet") })
	w.drain()
	c.gone() // a wish was open
	c = s.greet()
	c.resume(nil)
	if len(c.held) != 8 {
		t.Errorf("%d builds are held", len(c.held))
	}
	opens[0]()
	for _, id := range ids {
		c.store(id)
	}
	w.over(t)
	for i, want := range []string{"one\ntwo\nthree", "one\ntwo\nthree", "one\ntwo"} {
		if got := s.build(ids[i]).text(); got != want {
			t.Errorf("console %d is %q", i, got)
		}
	}
}

// TestBulk: contents go on at the offset that was reached, and are given again
// when their hash was not right.
func TestBulk(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	id := c.start("seq 1000000 > large; ln large same; echo small > small; : > empty")
	e := s.build(id)
	c.until(func() bool { return e.over })
	if len(e.artifacts) != 4 {
		t.Fatalf("artifacts %v", e.artifacts)
	}
	empty, large, small := e.artifacts[0].Content, e.artifacts[1].Content, e.artifacts[3].Content
	c.send(wire.Want{UUID: id})
	bulk := s.bulk(id)
	bulk.send(wire.Want{UUID: id, Contents: []wire.Wanted{{Content: large}, {Content: small}}})
	part := make([]byte, 1_000_000)
	if _, err := io.ReadFull(bulk.receive(wire.KindContent).(io.Reader), part); err != nil {
		t.Fatal(err)
	}
	bulk.Close()
	bulk = s.bulk(id) // it comes again
	unknown := job.ContentOf([]byte("unknown"))
	bulk.send(wire.Want{UUID: id, Contents: []wire.Wanted{{Content: large, Offset: 1_000_000}, {Content: unknown}, {Content: small, Offset: small.Size}, {Content: empty}}})
	in := bulk.receive(wire.KindContent).(*wire.IncomingContent)
	rest, err := io.ReadAll(in)
	if err != nil || in.Offset != 1_000_000 || in.Content != large || job.ContentOf(append(part, rest...)) != large {
		t.Errorf("the rest has %d octets, from %d on, %v", len(rest), in.Offset, err)
	}
	if m := bulk.receive(wire.KindMissing).(wire.Missing); m.Content != unknown {
		t.Errorf("missing is %+v", m)
	}
	for _, content := range []job.Content{small, empty} {
		in := bulk.receive(wire.KindContent).(*wire.IncomingContent)
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 || in.Content != content {
			t.Errorf("%d octets of %v came, %v", len(rest), in.Content, err)
		}
	}
	if contents := bulk.fetch(id); len(contents) != 3 {
		t.Errorf("%d contents came again", len(contents))
	}
	bulk.send(wire.Success{})
	c.send(wire.Stored{UUID: id})
}

// TestBulkBeyond: a server that asks for what lies behind the end is left, and
// the build kept.
func TestBulkBeyond(t *testing.T) {
	t.Parallel()
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	id := c.start("echo small > small")
	e := s.build(id)
	c.until(func() bool { return e.over })
	c.send(wire.Want{UUID: id})
	bulk := s.bulk(id)
	bulk.send(wire.Want{UUID: id, Contents: []wire.Wanted{{Content: e.artifacts[0].Content, Offset: 1000}}})
	bulk.gone()
	s.bulk(id).send(wire.Success{})
	c.send(wire.Stored{UUID: id})
}

// TestViolations: a server that says what makes no sense is left; builds go on.
func TestViolations(t *testing.T) {
	for name, m := range map[string]func(id uuid.UUID) wire.Message{
		"start for no wish":     func(uuid.UUID) wire.Message { return wire.Start{Build: wire.BuildStatus{UUID: uuid.New()}} },
		"stored before its end": func(id uuid.UUID) wire.Message { return wire.Stored{UUID: id} },
		"not for a worker":      func(uuid.UUID) wire.Message { return wire.Info{} },
		"failure":               func(uuid.UUID) wire.Message { return wire.Failure{Text: "no"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			work(t, s)
			c := s.accept()
			script, open := gated(t)
			id := c.start(script)
			c.until(func() bool { return len(s.build(id).lines) == 2 })
			c.send(m(id))
			c.gone()
			c = s.greet()
			open()
			c.resume(nil)
			if e := c.store(id); !e.result.Success() || e.text() != "one\ntwo\nthree" {
				t.Errorf("result %v, console %q", e.result, e.text())
			}
		})
	}
	t.Run("the same build twice", func(t *testing.T) {
		t.Parallel()
		s := newScripted(t, false)
		work(t, s, func(c *worker.Config) { c.Slots = 2 })
		c := s.accept()
		c.until(func() bool { return c.wishes == 2 })
		script, open := gated(t)
		id := c.start(script)
		c.until(func() bool { return len(s.build(id).lines) == 2 })
		c.send(wire.Start{Build: wire.BuildStatus{UUID: id}, Script: []byte("echo again")})
		c.gone()
		open()
		c = s.greet()
		c.resume(nil)
		if e := c.store(id); e.text() != "one\ntwo\nthree" {
			t.Errorf("console %q", e.text())
		}
	})
	t.Run("resume of others", func(t *testing.T) {
		t.Parallel()
		s := newScripted(t, false)
		work(t, s)
		for _, m := range []wire.Resume{
			{Builds: []wire.Resumption{{UUID: uuid.New()}}},
			{Builds: []wire.Resumption{{UUID: uuid.New()}, {UUID: uuid.New()}}},
		} {
			c := s.greet()
			c.receive(wire.KindHolding)
			c.send(m)
			c.gone()
		}
		s.accept()
	})
}

// TestOnceRefused: a worker of one build that was not delivered says so.
func TestOnceRefused(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.Persistent = false })
	c := s.accept()
	id := c.start("echo x")
	c.until(func() bool { return s.build(id).over })
	c.send(wire.Stored{UUID: id, Refused: "lost before"})
	if err := <-w.done; err == nil || !strings.Contains(err.Error(), "did not take") {
		t.Errorf("error %v", err)
	}
}

// TestOnceLeft: so does one that has to leave its build in the directory.
func TestOnceLeft(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.Persistent, c.Farewell = false, time.Millisecond })
	w.leaves = true
	c := s.accept()
	id := c.start("echo x")
	c.until(func() bool { return s.build(id).over })
	w.kill()
	if err := <-w.done; err == nil || !strings.Contains(err.Error(), "1 builds are not delivered: they are left in "+w.dir.Path) {
		t.Errorf("error %v", err)
	}
}

// TestRenew: when a worker is told to end while builds run and others are asked
// for, it makes its connection anew, without asking.
func TestRenew(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.Slots = 2 })
	c := s.accept()
	script, open := gated(t)
	id := c.start(script)
	c.until(func() bool { return len(s.build(id).lines) == 2 && c.wishes == 1 })
	w.drain()
	c.gone()
	c = s.greet()
	c.resume(nil)
	open()
	c.store(id)
	w.over(t)
	c.gone()
	if c.wishes > 0 {
		t.Error("another build was asked for")
	}
}
