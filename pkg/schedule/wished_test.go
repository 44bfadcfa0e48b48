package schedule_test

import (
	"errors"
	"testing"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestWished: the first wish counts, over a snapshot too, and the build runs on.
func TestWished(t *testing.T) {
	s := schedule.New()
	must(t, s, decide(t)(s.Schedule(start, script("j", "p"), job.Plan{}, nil, false)))
	b := handOut(t, s, start, "p")
	cancelled := job.Failure(job.Cancelled, "cancelled")
	e, ok, err := s.Wish(b.UUID, cancelled)
	if err != nil || !ok {
		t.Fatalf("wishing: %v, %v", ok, err)
	}
	must(t, s, e)
	if _, ok, err := s.Wish(b.UUID, job.Failure(job.Timeout, "late")); ok || err != nil {
		t.Errorf("wishing again: %v, %v", ok, err)
	}
	if _, _, err := s.Wish(uuid.UUID{9}, cancelled); !errors.Is(err, schedule.ErrEnded) {
		t.Errorf("wishing for the end of an unknown build: %v", err)
	}
	restored := schedule.New()
	for record := range s.Snapshot() {
		if err := restored.Apply(record); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]*schedule.State{"state": s, "snapshot": restored} {
		if diff := cmp.Diff(&cancelled, s.Building(b.UUID).Wish); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
