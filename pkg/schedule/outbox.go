package schedule

import (
	"fmt"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Delivered takes a build out of the outbox.
//
//	[11] { uuid Uuid }
type Delivered struct{ UUID uuid.UUID }

// Deliver decides that a build need not be uploaded any more.
func (s *State) Deliver(id uuid.UUID) (Delivered, error) {
	return Delivered{id}, s.checkUnsent(id)
}

func (s *State) checkUnsent(id uuid.UUID) error {
	if s.unsent[id] == nil {
		return fmt.Errorf("build %v does not wait for upload", id)
	}
	return nil
}

// post puts a build into the outbox, unless it is there.
func (s *State) post(id uuid.UUID) {
	if s.unsent[id] == nil {
		s.unsent[id] = s.outbox.PushBack(id)
	}
}

func (Delivered) tag() int { return tagDelivered }

func (e Delivered) encode(w *der.Writer) { encodeUUID(w, e.UUID) }

func decodeDelivered(r *der.Reader) Event { return Delivered{job.DecodeUUID(r)} }

func (e Delivered) apply(s *State) error {
	if err := s.checkUnsent(e.UUID); err != nil {
		return err
	}
	s.outbox.Remove(s.unsent[e.UUID])
	delete(s.unsent, e.UUID)
	return nil
}
