package schedule_test

import (
	"encoding/binary"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/uuid"
)

// script is a job with some script.
func script(name, platform string) job.Job {
	return job.Job{Name: name, Platform: platform, Script: job.ContentOf([]byte("true " + name))}
}

// must applies an event by its record.
func must(t testing.TB, s *schedule.State, events ...schedule.Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Apply(schedule.Encode(e)); err != nil {
			t.Fatal(err)
		}
	}
}

// rebuild makes the state that a snapshot of s makes.
func rebuild(t testing.TB, s *schedule.State) *schedule.State {
	t.Helper()
	again := schedule.New()
	for record := range s.Snapshot() {
		if err := again.Apply(record); err != nil {
			t.Fatal(err)
		}
	}
	return again
}

// decide passes on the event of a decision that must not fail.
func decide(t testing.TB) func(schedule.Event, error) schedule.Event {
	return func(e schedule.Event, err error) schedule.Event {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

var uuids uint64

// newUUID is one that no other test has.
func newUUID() (id uuid.UUID) {
	uuids++
	binary.BigEndian.PutUint64(id[8:], uuids)
	return id
}

// handOut hands out the next run of a platform, which there must be.
func handOut(t testing.TB, s *schedule.State, now time.Time, platform string) *schedule.Building {
	t.Helper()
	e, ok := s.HandOut(now, platform, "worker", "", newUUID())
	if !ok {
		t.Fatalf("no run is ready on %s at %v", platform, now)
	}
	must(t, s, e)
	return s.Building(e.UUID)
}

// finish ends a build.
func finish(t testing.TB, s *schedule.State, now time.Time, b *schedule.Building, result job.Result) schedule.Finished {
	t.Helper()
	e, err := s.Finish(now, schedule.End{UUID: b.UUID, Result: result}, schedule.DefaultBackoff)
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, e)
	return e
}

// due lets time pass and returns how many runs that asked for.
func due(t testing.TB, s *schedule.State, now time.Time) int {
	t.Helper()
	runs := 0
	for _, e := range s.Due(now, func(job.Job) []string { return nil }) {
		must(t, s, e)
		runs += len(e.Tickets)
	}
	return runs
}
