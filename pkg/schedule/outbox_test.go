package schedule_test

import (
	"errors"
	"slices"
	"testing"

	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// ended makes builds that ended, for these remotes.
func ended(t *testing.T, s *schedule.State, n int, remotes ...string) (ids []uuid.UUID) {
	t.Helper()
	for range n {
		must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
		b := handOut(t, s, start, "p")
		must(t, s, decide(t)(s.Finish(start, schedule.End{UUID: b.UUID, Remotes: remotes}, schedule.DefaultBackoff)))
		ids = append(ids, b.UUID)
	}
	return ids
}

func checkOutbox(t *testing.T, s *schedule.State, want ...schedule.Post) {
	t.Helper()
	if diff := cmp.Diff(want, slices.Collect(s.Outbox())); diff != "" {
		t.Errorf("outbox differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, slices.Collect(rebuild(t, s).Outbox())); diff != "" {
		t.Errorf("outbox of the snapshot differs (-want +got):\n%s", diff)
	}
}

// TestOutbox: each remote has its own line, and what becomes of a build there says
// nothing to the others.
func TestOutbox(t *testing.T) {
	s := scheduled(t, never, "j")
	b := ended(t, s, 3, "x", "y")
	must(t, s,
		decide(t)(s.Deliver(b[1], "x")),
		decide(t)(s.Deliver(b[0], "y")), decide(t)(s.Deliver(b[0], "x")),
		decide(t)(s.Park(b[2], "y", "answered 401")))
	checkOutbox(t, s, schedule.Post{UUID: b[1], Remote: "y"}, schedule.Post{UUID: b[2], Remote: "x"},
		schedule.Post{UUID: b[2], Remote: "y", Parked: "answered 401"})
	if _, err := s.Deliver(b[1], "x"); !errors.Is(err, schedule.ErrNotPosted) {
		t.Errorf("delivered twice: %v", err)
	}
	if s.Posted(b[0]) || !s.Posted(b[1]) {
		t.Error("Posted is wrong")
	}
	if _, ok := s.Free(b[1], "y"); ok {
		t.Error("a build is freed that is not parked")
	}
	later := ended(t, s, 1, "y")
	free, ok := s.Free(b[2], "y")
	if !ok {
		t.Fatal("a parked build can not be freed")
	}
	must(t, s, free, decide(t)(s.DropPost(b[1], "y")))
	checkOutbox(t, s, schedule.Post{UUID: b[2], Remote: "x"}, schedule.Post{UUID: later[0], Remote: "y"}, schedule.Post{UUID: b[2], Remote: "y"})
}

// TestOldOutbox: what a release wrote that knew one remote without a name.
func TestOldOutbox(t *testing.T) {
	s := scheduled(t, never, "j")
	var ids []uuid.UUID
	for range 3 {
		must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
		b := handOut(t, s, start, "p")
		e, err := s.Finish(start, schedule.End{UUID: b.UUID}, schedule.DefaultBackoff)
		if err != nil {
			t.Fatal(err)
		}
		e.Upload = true
		if err := s.Apply(shortened(schedule.Encode(e), 9)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.UUID)
	}
	if err := s.Apply(shortened(schedule.Encode(schedule.Delivered{UUID: ids[1]}), 1)); err != nil {
		t.Fatal(err)
	}
	checkOutbox(t, s, schedule.Post{UUID: ids[0]}, schedule.Post{UUID: ids[2]})
	addressed, ok := s.Address("x")
	if !ok {
		t.Fatal("there is nothing to address")
	}
	must(t, s, addressed)
	checkOutbox(t, s, schedule.Post{UUID: ids[0], Remote: "x"}, schedule.Post{UUID: ids[2], Remote: "x"})
	if _, ok := s.Address("x"); ok {
		t.Error("addressed twice")
	}
}
