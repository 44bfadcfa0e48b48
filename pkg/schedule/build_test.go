package schedule_test

import (
	"errors"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
)

// TestRetries: three tries at the front of the queue, with pauses in which
// others go on.
func TestRetries(t *testing.T) {
	s := scheduled(t, never, "j", "other")
	now := start
	must(t, s, decide(t)(s.Execute(now, "other", "", nil)))
	must(t, s, decide(t)(s.Execute(now, "j", "", nil)))
	b := handOut(t, s, now, "p")
	for try, pause := range []time.Duration{5 * time.Second, 20 * time.Second} {
		e := finish(t, s, now, b, lost)
		if !e.Again || e.Tries != try+1 || !e.After.Equal(now.Add(pause)) {
			t.Fatalf("after try %d: %+v", try+1, e)
		}
		if next, ok := s.NextDue(now); !ok || !next.Equal(e.After) {
			t.Errorf("next due is %v, want %v", next, e.After)
		}
		if o, ok := s.HandOut(e.After.Add(-1), "p", "w", "", newUUID()); !ok || s.Run(o.Run).Job.Name != "other" {
			t.Errorf("the other job does not go on: %+v", o)
		}
		now = e.After
		if _, ok := s.NextDue(now); ok {
			t.Error("a run that lacks a worker keeps the timer busy")
		}
		b = handOut(t, s, now, "p")
		if b.Run.Job.Name != "j" || b.Try != try+2 {
			t.Fatalf("got %+v of %+v", b, b.Run)
		}
	}
	if e := finish(t, s, now, b, lost); e.Again {
		t.Errorf("a fourth try: %+v", e)
	}
	if diff := cmp.Diff(&schedule.Ended{UUID: b.UUID, Result: lost, Finished: now}, s.Entry("j").Last); diff != "" {
		t.Errorf("last end differs (-want +got):\n%s", diff)
	}
	if _, err := s.Finish(now, schedule.End{UUID: b.UUID}, schedule.DefaultBackoff); !errors.Is(err, schedule.ErrEnded) {
		t.Errorf("ended twice: %v", err)
	}
}

// TestExecuteEndsPause: who asks does not wait.
func TestExecuteEndsPause(t *testing.T) {
	s := scheduled(t, never, "j")
	must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	finish(t, s, start, handOut(t, s, start, "p"), lost)
	if s.Ready("p", start) {
		t.Fatal("it does not wait")
	}
	must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	if b := handOut(t, s, start, "p"); b.Try != 2 {
		t.Errorf("try %d", b.Try)
	}
}

func TestNotTriedAgain(t *testing.T) {
	lostWhile := func(meanwhile func(*testing.T, *schedule.State)) func(*testing.T) {
		return func(t *testing.T) {
			s := scheduled(t, never, "j")
			must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
			b := handOut(t, s, start, "p")
			meanwhile(t, s)
			before := queue(s, "p")
			if e := finish(t, s, start, b, lost); e.Again || queue(s, "p") != before {
				t.Errorf("it is tried again: %+v, queue %q", e, queue(s, "p"))
			}
		}
	}
	t.Run("unscheduled", lostWhile(func(t *testing.T, s *schedule.State) {
		must(t, s, decide(t)(s.Unschedule("j")))
	}))
	t.Run("moved to another platform", lostWhile(func(t *testing.T, s *schedule.State) {
		must(t, s, decide(t)(s.Schedule(start, script("j", "q"), never, nil, true)))
	}))
	t.Run("asked for once more", lostWhile(func(t *testing.T, s *schedule.State) {
		must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	}))
	t.Run("failed by itself", func(t *testing.T) {
		s := scheduled(t, never, "j")
		for _, result := range []job.Result{
			{Kind: job.Exited, Code: 1},
			{Kind: job.Signalled, Code: 9},
			job.Failure("", "from a protocol-5 worker"),
			job.Failure(job.Timeout, "an hour"), job.Failure(job.Cancelled, "by me"), job.Failure(job.Setup, "no template"),
		} {
			must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
			if e := finish(t, s, start, handOut(t, s, start, "p"), result); e.Again {
				t.Errorf("%v is tried again", result)
			}
		}
	})
}

// TestUncounted: what the server itself caused never uses up the tries.
func TestUncounted(t *testing.T) {
	s := scheduled(t, never, "j")
	must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	for range 10 {
		b := handOut(t, s, start, "p")
		e, err := s.Finish(start, schedule.End{UUID: b.UUID, Result: lost, Uncounted: true}, schedule.DefaultBackoff)
		if err != nil || !e.Again || e.Tries != 0 || !e.After.IsZero() {
			t.Fatalf("%+v, %v", e, err)
		}
		must(t, s, e)
	}
}
