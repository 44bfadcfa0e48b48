package schedule

import (
	"fmt"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Expanded says what the template of a build's job became. It comes before a worker
// hears of that script: the file of the template may be another one later.
//
//	[19] { uuid Uuid, script Content }
type Expanded struct {
	UUID   uuid.UUID
	Script job.Content
}

// Expand decides on the script of a build. The error wraps [ErrEnded] when the
// build has ended.
func (s *State) Expand(id uuid.UUID, script job.Content) (Expanded, error) {
	return Expanded{UUID: id, Script: script}, s.checkUnexpanded(id)
}

func (s *State) checkUnexpanded(id uuid.UUID) error {
	switch b := s.Building(id); {
	case b == nil:
		return unknownBuild(id)
	case !b.Expanded.IsZero():
		return fmt.Errorf("the template of build %v is expanded twice", id)
	}
	return nil
}

func (Expanded) tag() int { return tagExpanded }

func (e Expanded) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	job.EncodeContent(w, e.Script)
}

func decodeExpanded(r *der.Reader) Event {
	return Expanded{UUID: job.DecodeUUID(r), Script: job.DecodeContent(r)}
}

func (e Expanded) apply(s *State) error {
	if err := s.checkUnexpanded(e.UUID); err != nil {
		return err
	}
	b := *s.Building(e.UUID)
	b.Expanded = e.Script
	s.building[e.UUID] = &b
	return nil
}
