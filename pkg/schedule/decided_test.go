package schedule_test

import (
	"errors"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
)

// TestDecided: the result that was decided first stands, over a snapshot too,
// whatever the build's end is said to be; the build runs on until then.
func TestDecided(t *testing.T) {
	s := queued(t, script("j", "p"))
	b := handOut(t, s, start, "p")
	cancelled := job.Failure(job.Cancelled, "cancelled: by me")
	at := start.Add(time.Minute)
	must(t, s, decide(t)(s.Decide(at, b.UUID, cancelled)))
	if _, err := s.Decide(at, b.UUID, job.Failure(job.Timeout, "late")); !errors.Is(err, schedule.ErrDecided) {
		t.Errorf("decided twice: %v", err)
	}
	if b.Decided != nil {
		t.Error("the building that was given out has changed")
	}
	again := rebuild(t, s)
	want := *b
	want.Decided, want.DecidedAt = &cancelled, at
	for name, s := range map[string]*schedule.State{"state": s, "snapshot": again} {
		if diff := cmp.Diff(&want, s.Building(b.UUID)); diff != "" {
			t.Errorf("%s: building differs (-want +got):\n%s", name, diff)
		}
		e := finish(t, s, at, b, lost)
		if e.Again || e.Result != cancelled || s.Entry("j").Last.Result != cancelled || s.Entry("j").Losses != 0 {
			t.Errorf("%s: %+v", name, e)
		}
		if _, err := s.Decide(at, b.UUID, cancelled); !errors.Is(err, schedule.ErrEnded) {
			t.Errorf("%s: decided after the end: %v", name, err)
		}
	}
}

// TestDecidedTimeout: what was decided is judged like any other result.
func TestDecidedTimeout(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		j := script("j", "p")
		j.Retries.OnTimeout = wanted
		s := queued(t, j)
		b := handOut(t, s, start, "p")
		must(t, s, decide(t)(s.Decide(start, b.UUID, job.Failure(job.Timeout, "ran longer than 1h"))))
		if e := finish(t, s, start, b, job.Result{}); e.Again != wanted {
			t.Errorf("wanted %v: %+v", wanted, e)
		}
	}
}
