package schedule

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Decided fixes how a build ends that has not ended yet: somebody cancelled it, or
// its time is up, and what it left may still be on its way.
//
//	[17] { uuid Uuid, result Result, at Instant }
type Decided struct {
	UUID   uuid.UUID
	Result job.Result
	At     time.Time
}

// Decide decides on the result of a build that is still to be ended by
// [State.Finish]. The first one wins: the error wraps [ErrDecided] when there is
// one already, [ErrEnded] when the build has ended.
func (s *State) Decide(now time.Time, id uuid.UUID, result job.Result) (Decided, error) {
	e := Decided{UUID: id, Result: result, At: instant(now)}
	e.Result.Text = cut(result.Text)
	return e, s.checkOpen(id)
}

// checkOpen finds builds whose end is known.
func (s *State) checkOpen(id uuid.UUID) error {
	switch b := s.Building(id); {
	case b == nil:
		return unknownBuild(id)
	case b.Decided != nil:
		return fmt.Errorf("%w: %v", ErrDecided, b.Decided)
	}
	return nil
}

func (Decided) tag() int { return tagDecided }

func (e Decided) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	job.EncodeResult(w, e.Result)
	job.EncodeTime(w, e.At)
}

func decodeDecided(r *der.Reader) Event {
	return Decided{UUID: job.DecodeUUID(r), Result: job.DecodeResult(r), At: job.DecodeTime(r)}
}

func (e Decided) apply(s *State) error {
	if err := s.checkOpen(e.UUID); err != nil {
		return err
	}
	b := *s.Building(e.UUID)
	b.Decided, b.DecidedAt = &e.Result, e.At
	s.building[e.UUID] = &b
	return nil
}
