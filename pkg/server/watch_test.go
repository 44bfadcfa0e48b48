package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// seen is what a watching client has been shown, line by line of this:
// "begin TRY", "line TEXT", "partial TEXT", "end RESULT", "final RESULT".
type seen struct {
	events chan string
	done   chan error
	uuid   chan uuid.UUID
}

func (r *running) watch(target wire.Watch) *seen {
	r.t.Helper()
	s := &seen{make(chan string, 10_000), make(chan error, 1), make(chan uuid.UUID, 100)}
	c := r.newClient()
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	show := func(event string) error {
		select {
		case s.events <- event:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() {
		defer close(stopped)
		s.done <- c.Watch(ctx, target, client.Viewer{
			Begin: func(b wire.BuildStatus) error {
				s.uuid <- b.UUID
				return show(fmt.Sprintf("begin %d", b.Try))
			},
			Line: func(line job.Line) error {
				kind := "line "
				if line.Flags&job.Partial != 0 {
					kind = "partial "
				}
				return show(kind + string(line.Data))
			},
			End: func(b job.Build, again bool) error {
				kind := "final "
				if again {
					kind = "end "
				}
				return show(kind + b.Result.String())
			},
		})
	}()
	r.t.Cleanup(func() { cancel(); <-stopped })
	return s
}

// expect waits for these events, in this order and with nothing between.
func (s *seen) expect(t testing.TB, events ...string) {
	t.Helper()
	for _, want := range events {
		select {
		case got := <-s.events:
			begin, some := strings.CutSuffix(want, "*")
			if got != want && (!some || !strings.HasPrefix(got, begin)) {
				t.Fatalf("shown %q, expected %q", got, want)
			}
		case <-time.After(deadline):
			t.Fatalf("waited in vain for %q", want)
		}
	}
}

// over waits for the end of the watching.
func (s *seen) over(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(deadline):
		t.Fatal("watching does not end")
		return nil
	}
}

func lines(id uuid.UUID, from int64, text ...string) wire.Lines {
	m := wire.Lines{UUID: id, From: from}
	for _, line := range text {
		m.Lines = append(m.Lines, job.Line{Data: []byte(line)})
	}
	return m
}

var success = job.Result{Kind: job.Exited}

// TestWatch follows one build and replays it, from all the names it has.
func TestWatch(t *testing.T) {
	r := start(t)
	run := r.schedule("one", "p", "x").Runs[0]
	early := r.watch(wire.Watch{Run: run.ID, Job: "one"})
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	w.send(wire.Lines{UUID: id, Lines: []job.Line{{Data: []byte("first\nsecond"), Flags: job.Many}}})
	early.expect(t, "begin 1", "line first", "line second")
	byJob := r.watch(wire.Watch{What: "one"})
	byJob.expect(t, "begin 1", "line first", "line second")
	byPrefix := r.watch(wire.Watch{What: strings.ToUpper(id.String()[:6]), From: 1})
	byPrefix.expect(t, "begin 1", "line second")
	latest := r.watch(wire.Watch{Platform: "p"})
	latest.expect(t, "begin 1", "line first", "line second")
	old := r.dial(wire.Client, wire.ClientVersion)
	old.send(wire.Observe{UUID: id})

	w.send(wire.Lines{UUID: id, From: 2, Lines: []job.Line{{Data: []byte("thi"), Flags: job.Partial}}})
	all := []*seen{early, byJob, byPrefix, latest}
	for _, s := range all {
		s.expect(t, "partial thi")
	}
	w.send(lines(id, 2, "third"))
	w.send(wire.Finish{UUID: id, Result: success, Duration: time.Millisecond})
	if stored := w.receive(wire.KindStored).(wire.Stored); stored.UUID != id || stored.Refused != "" {
		t.Errorf("stored: %+v", stored)
	}
	for _, s := range all {
		s.expect(t, "line third", "final exited 0")
		if err := s.over(t); err != nil {
			t.Errorf("watching: %v", err)
		}
	}
	for _, want := range []string{"first", "second", "third", "exited 0"} {
		if m := old.receive(wire.KindOutput).(wire.Output); string(m.Data) != want {
			t.Errorf("a client of the reference is shown %q, expected %q", m.Data, want)
		}
	}
	for name, target := range map[string]wire.Watch{
		"run": {Run: run.ID, Job: "one", From: 2}, "job": {What: "one", From: 2},
		"uuid": {What: id.String(), From: 2}, "prefix": {What: id.String()[:8], From: 2},
	} {
		s := r.watch(target)
		s.expect(t, "begin 1", "line third", "final exited 0")
		if err := s.over(t); err != nil {
			t.Errorf("replaying by %s: %v", name, err)
		}
	}
	for name, target := range map[string]wire.Watch{
		"nothing runs":       {},
		"unknown run":        {Run: 100, Job: "one"},
		"unknown name":       {What: "none"},
		"unknown uuid":       {What: uuid.NewString()},
		"far too many lines": {What: "none", From: 1 << 40},
	} {
		var refused *client.RefusedError
		if err := r.watch(target).over(t); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	past := r.watch(wire.Watch{What: "one", From: 1 << 40})
	past.expect(t, "begin 1", "final exited 0")
}

// TestWatchTries follows a run from try to try, late and slow.
func TestWatchTries(t *testing.T) {
	r := start(t)
	run := r.schedule("one", "p", "x").Runs[0]
	s := r.watch(wire.Watch{Run: run.ID, Job: "one"})
	for try := 1; try <= 2; try++ {
		w := r.requested(wire.OwnVersion, "p")
		w.send(lines(w.begin().Build.UUID, 0, fmt.Sprint("in try ", try)))
		s.expect(t, fmt.Sprint("begin ", try), fmt.Sprint("line in try ", try))
		w.Close()
		s.expect(t, "end worker lost*")
	}
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	s.expect(t, "begin 3")
	late := r.watch(wire.Watch{Run: run.ID, Job: "one"})
	late.expect(t, "begin 3") // the newest
	w.send(wire.Finish{UUID: id, Result: success})
	s.expect(t, "final exited 0")
	late.expect(t, "final exited 0")
}

// TestWatchSlow: the build that follows has ended before the client has seen
// the end of the one before. It is not forgotten.
func TestWatchSlow(t *testing.T) {
	r := start(t)
	run := r.schedule("one", "p", "x").Runs[0]
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	slow := r.dial(wire.Client, wire.OwnVersion)
	slow.send(wire.Watch{Run: run.ID, Job: "one"})
	slow.receive(wire.KindWatching)
	long := strings.Repeat("x", 60_000)
	const count = 300 // more than sockets hold
	for i := range count {
		w.send(lines(id, int64(i), long))
	}
	w.Close()
	r.ended("one", 1)
	second := r.requested(wire.OwnVersion, "p")
	next := second.begin().Build.UUID
	second.send(wire.Finish{UUID: next, Result: success})
	r.ended("one", 2)
	got := 0
	for {
		m := slow.receive(wire.KindLines, wire.KindEnded)
		if ended, ok := m.(wire.Ended); ok {
			if ended.Final || ended.Build.UUID != id {
				t.Fatalf("ended: %+v", ended)
			}
			break
		}
		got += len(m.(wire.Lines).Lines)
	}
	if got != count {
		t.Errorf("%d lines, expected %d", got, count)
	}
	if m := slow.receive(wire.KindWatching).(wire.Watching); m.Build.UUID != next {
		t.Errorf("watching %v, expected %v", m.Build.UUID, next)
	}
	if m := slow.receive(wire.KindEnded).(wire.Ended); !m.Final {
		t.Error("not final")
	}
	slow.done()
}

// TestWatchGone: a client that goes is noticed while nothing happens.
func TestWatchGone(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	run := r.schedule("two", "q", "x").Runs[0] // nobody builds there
	id := uuid.Nil
	for name, ask := range map[string]func() *peer{
		"waiting for a build": func() *peer {
			p := r.dial(wire.Client, wire.OwnVersion)
			p.send(wire.Watch{Run: run.ID, Job: "two"})
			return p
		},
		"watching": func() *peer {
			if id == uuid.Nil {
				id = r.requested(wire.OwnVersion, "p").begin().Build.UUID
			}
			p := r.dial(wire.Client, wire.OwnVersion)
			p.send(wire.Watch{What: "one"})
			p.receive(wire.KindWatching)
			return p
		},
		"observing": func() *peer {
			if id == uuid.Nil {
				id = r.requested(wire.OwnVersion, "p").begin().Build.UUID
			}
			p := r.dial(wire.Client, wire.ClientVersion)
			p.send(wire.Observe{UUID: id})
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := ask()
			p.t = t
			if err := p.net.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			p.gone()
		})
	}
}

// TestWatchCancelled: the run is cancelled while its next try is waited for.
func TestWatchCancelled(t *testing.T) {
	r := start(t)
	run := r.schedule("one", "p", "x").Runs[0]
	s := r.watch(wire.Watch{Run: run.ID, Job: "one"})
	w := r.requested(wire.OwnVersion, "p")
	w.begin()
	w.Close()
	s.expect(t, "begin 1", "end worker lost*")
	if err := r.client().Cancel(t.Context(), "one", ""); err != nil {
		t.Fatal(err)
	}
	var refused *client.RefusedError
	if err := s.over(t); !errors.As(err, &refused) || !strings.Contains(refused.Text, "cancelled") {
		t.Errorf("watching ended with %v", err)
	}
	if len(s.events) > 0 {
		t.Errorf("shown besides: %q", <-s.events)
	}
}

// TestList lists builds, of one job and of all.
func TestList(t *testing.T) {
	r := start(t)
	var want []uuid.UUID
	for _, name := range []string{"one", "two", "three"} {
		r.schedule(name, "p", "x")
		w := r.requested(wire.WorkerVersion, "p")
		id := w.job().UUID
		w.send(wire.JobFinished{UUID: id, Files: []wire.File{{Path: "a", Data: text("x")}}})
		w.gone()
		want = append([]uuid.UUID{id}, want...)
	}
	ids := func(name string, limit int) []uuid.UUID {
		builds, err := r.client().Builds(t.Context(), name, limit)
		if err != nil {
			t.Fatal(err)
		}
		var ids []uuid.UUID
		for _, b := range builds {
			ids = append(ids, b.UUID)
		}
		return ids
	}
	for _, tt := range []struct {
		job   string
		limit int
		want  []uuid.UUID
	}{
		{"", 0, want}, {"", 2, want[:2]}, {"two", 0, want[1:2]}, {"none", 0, nil}, {"", -5, want},
	} {
		if diff := cmp.Diff(tt.want, ids(tt.job, tt.limit)); diff != "" {
			t.Errorf("builds of %q, at most %d (-want +got):\n%s", tt.job, tt.limit, diff)
		}
	}
	before := r.export(want[0]).Raw
	r.restart()
	if diff := cmp.Diff(want, ids("", 0)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, r.export(want[0]).Raw); diff != "" {
		t.Errorf("a restart changed the result file (-want +got):\n%s", diff)
	}
	if err := r.client().Export(t.Context(), uuid.NewString(), nil); err == nil {
		t.Error("an unknown build was exported")
	}
}
