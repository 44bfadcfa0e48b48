package schedule

import (
	"builder/pkg/der"
)

// Cancelled takes runs out of their queues.
//
//	[10] { runs Runs }
type Cancelled struct{ Runs []uint64 }

// CancelRun decides on the end of a queued run. The error wraps [ErrNotQueued]
// for any other.
func (s *State) CancelRun(id uint64) (Cancelled, error) {
	e := Cancelled{Runs: []uint64{id}}
	return e, s.checkQueued("", e.Runs)
}

// CancelJob decides on the end of all queued runs of a job, which may be none:
// then ok is false. Its builds and its plan are left alone.
func (s *State) CancelJob(name string) (e Cancelled, ok bool) {
	e.Runs = s.queuedRuns(name)
	return e, len(e.Runs) > 0
}

func (Cancelled) tag() int { return tagCancelled }

func (e Cancelled) encode(w *der.Writer) { encodeRunIDs(w, e.Runs) }

func decodeCancelled(r *der.Reader) Event { return Cancelled{decodeRunIDs(r)} }

func (e Cancelled) apply(s *State) error {
	if err := s.checkQueued("", e.Runs); err != nil {
		return err
	}
	for _, id := range e.Runs {
		s.dequeue(id)
	}
	return nil
}
