package schedule

import (
	"fmt"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Wished says that somebody wants a build to end, and with which result. The
// build goes on until its worker has heard so: what it ends with is decided then.
//
//	[18] { uuid Uuid, result Result }
type Wished struct {
	UUID   uuid.UUID
	Result job.Result
}

// Wish decides on the end that a build is wanted to have. The first wish counts:
// ok is false when there is one already. The error wraps [ErrEnded] when the
// build has ended.
func (s *State) Wish(id uuid.UUID, result job.Result) (e Wished, ok bool, err error) {
	b := s.Building(id)
	if b == nil {
		return e, false, unknownBuild(id)
	}
	e = Wished{UUID: id, Result: result}
	e.Result.Text = cut(result.Text)
	return e, b.Wish == nil, nil
}

func (Wished) tag() int { return tagWished }

func (e Wished) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	job.EncodeResult(w, e.Result)
}

func decodeWished(r *der.Reader) Event {
	return Wished{UUID: job.DecodeUUID(r), Result: job.DecodeResult(r)}
}

func (e Wished) apply(s *State) error {
	running := s.Building(e.UUID)
	switch {
	case running == nil:
		return unknownBuild(e.UUID)
	case running.Wish != nil:
		return fmt.Errorf("the end of build %v is wished for twice", e.UUID)
	}
	b := *running
	b.Wish = &e.Result
	s.building[e.UUID] = &b
	return nil
}
