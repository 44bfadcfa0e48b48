package schedule

import (
	"container/list"
	"errors"
	"fmt"
	"iter"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Post is a build that one remote does not have yet. It is never changed, only
// replaced.
type Post struct {
	UUID uuid.UUID
	// Remote is the remote's name; empty for what a release wrote that knew only one.
	Remote string
	// Parked says why the build is not to be sent before somebody asks for it; empty
	// while it is to be sent.
	Parked string
}

// ErrNotPosted says that the build is not in the outbox for that remote.
var ErrNotPosted = errors.New("build does not wait for that remote")

// MaxRemote is the longest name of a remote, in octets.
const MaxRemote = 1 << 10

// Outbox yields the posts, the build first that ended first.
func (s *State) Outbox() iter.Seq[Post] {
	return func(yield func(Post) bool) {
		for e := s.outbox.Front(); e != nil; e = e.Next() {
			if !yield(e.Value.(Post)) {
				return
			}
		}
	}
}

// Posted reports whether any remote does not have the build yet.
func (s *State) Posted(id uuid.UUID) bool { return len(s.unsent[id]) > 0 }

// posted is the place of a post, nil if there is none.
func (s *State) posted(id uuid.UUID, remote string) *list.Element {
	for _, at := range s.unsent[id] {
		if at.Value.(Post).Remote == remote {
			return at
		}
	}
	return nil
}

func (s *State) checkPosted(id uuid.UUID, remote string) (*list.Element, error) {
	if at := s.posted(id, remote); at != nil {
		return at, nil
	}
	return nil, fmt.Errorf("%w: %v, %q", ErrNotPosted, id, remote)
}

// post puts a build into the outbox, unless it is there.
func (s *State) post(p Post) {
	if s.posted(p.UUID, p.Remote) == nil {
		s.unsent[p.UUID] = append(s.unsent[p.UUID], s.outbox.PushBack(p))
	}
}

// unpost takes a build out of the outbox of one remote.
func (s *State) unpost(id uuid.UUID, remote string) error {
	at, err := s.checkPosted(id, remote)
	if err != nil {
		return err
	}
	s.outbox.Remove(at)
	var others []*list.Element
	for _, other := range s.unsent[id] {
		if other != at {
			others = append(others, other)
		}
	}
	if others == nil {
		delete(s.unsent, id)
	} else {
		s.unsent[id] = others
	}
	return nil
}

// Delivered takes a build out of the outbox: that remote has it.
//
//	[11] { uuid Uuid, remote UTF8String }
type Delivered struct {
	UUID   uuid.UUID
	Remote string
}

// Deliver decides that a build need not be sent to a remote any more, which has it.
// Its error, and those of the other decisions here, may wrap [ErrNotPosted].
func (s *State) Deliver(id uuid.UUID, remote string) (Delivered, error) {
	_, err := s.checkPosted(id, remote)
	return Delivered{id, remote}, err
}

func (Delivered) tag() int { return tagDelivered }

func (e Delivered) encode(w *der.Writer) { encodePost(w, e.UUID, e.Remote) }

func decodeDelivered(r *der.Reader) Event {
	e := Delivered{UUID: job.DecodeUUID(r)}
	if r.More() {
		e.Remote = decodeRemote(r)
	}
	return e
}

func (e Delivered) apply(s *State) error { return s.unpost(e.UUID, e.Remote) }

// PostsAddressed gives what has no remote's name to a remote.
//
//	[21] { remote UTF8String }
type PostsAddressed struct{ Remote string }

// Address decides that builds that are in the outbox without the name of a remote
// are meant for this one: they were put there by a release that knew only one. ok
// is false when there are none.
func (s *State) Address(remote string) (e PostsAddressed, ok bool) {
	for p := range s.Outbox() {
		if p.Remote == "" && remote != "" {
			return PostsAddressed{remote}, true
		}
	}
	return e, false
}

func (PostsAddressed) tag() int { return tagPostsAddressed }

func (e PostsAddressed) encode(w *der.Writer) { w.Text(e.Remote) }

func decodePostsAddressed(r *der.Reader) Event { return PostsAddressed{decodeRemote(r)} }

func (e PostsAddressed) apply(s *State) error {
	if e.Remote == "" {
		return errors.New("a remote has no name")
	}
	for p := range s.Outbox() {
		if p.Remote == "" && s.posted(p.UUID, e.Remote) != nil {
			return fmt.Errorf("build %v is to be sent twice to %q", p.UUID, e.Remote)
		}
	}
	for at := s.outbox.Front(); at != nil; at = at.Next() {
		if p := at.Value.(Post); p.Remote == "" {
			at.Value = Post{p.UUID, e.Remote, p.Parked}
		}
	}
	return nil
}

// PostParked keeps a build in the outbox that is not to be sent as it is.
//
//	[22] { uuid Uuid, remote, reason UTF8String }
type PostParked struct {
	UUID           uuid.UUID
	Remote, Reason string
}

// Park decides that a build is not sent to a remote before somebody asks for it. The
// reason is for people, and must not be empty.
func (s *State) Park(id uuid.UUID, remote, reason string) (PostParked, error) {
	_, err := s.checkPosted(id, remote)
	return PostParked{id, remote, cut(reason)}, err
}

func (PostParked) tag() int { return tagPostParked }

func (e PostParked) encode(w *der.Writer) {
	encodePost(w, e.UUID, e.Remote)
	w.Text(e.Reason)
}

func decodePostParked(r *der.Reader) Event {
	return PostParked{job.DecodeUUID(r), decodeRemote(r), r.Text()}
}

func (e PostParked) apply(s *State) error {
	at, err := s.checkPosted(e.UUID, e.Remote)
	switch {
	case err != nil:
		return err
	case e.Reason == "":
		return fmt.Errorf("build %v is parked without a reason", e.UUID)
	}
	at.Value = Post{e.UUID, e.Remote, e.Reason}
	return nil
}

// PostFreed lets a parked build be sent again, behind those that wait.
//
//	[23] { uuid Uuid, remote UTF8String }
type PostFreed struct {
	UUID   uuid.UUID
	Remote string
}

// Free decides that a parked build is sent again. ok is false when it is not parked.
func (s *State) Free(id uuid.UUID, remote string) (e PostFreed, ok bool) {
	at := s.posted(id, remote)
	return PostFreed{id, remote}, at != nil && at.Value.(Post).Parked != ""
}

func (PostFreed) tag() int { return tagPostFreed }

func (e PostFreed) encode(w *der.Writer) { encodePost(w, e.UUID, e.Remote) }

func decodePostFreed(r *der.Reader) Event { return PostFreed{job.DecodeUUID(r), decodeRemote(r)} }

func (e PostFreed) apply(s *State) error {
	at, err := s.checkPosted(e.UUID, e.Remote)
	if err != nil {
		return err
	}
	at.Value = Post{UUID: e.UUID, Remote: e.Remote}
	s.outbox.MoveToBack(at)
	return nil
}

// PostDropped takes a build out of the outbox: that remote is not to have it.
//
//	[24] { uuid Uuid, remote UTF8String }
type PostDropped struct {
	UUID   uuid.UUID
	Remote string
}

// DropPost decides that a build is not sent to a remote.
func (s *State) DropPost(id uuid.UUID, remote string) (PostDropped, error) {
	_, err := s.checkPosted(id, remote)
	return PostDropped{id, remote}, err
}

func (PostDropped) tag() int { return tagPostDropped }

func (e PostDropped) encode(w *der.Writer) { encodePost(w, e.UUID, e.Remote) }

func decodePostDropped(r *der.Reader) Event { return PostDropped{job.DecodeUUID(r), decodeRemote(r)} }

func (e PostDropped) apply(s *State) error { return s.unpost(e.UUID, e.Remote) }

func encodePost(w *der.Writer, id uuid.UUID, remote string) {
	encodeUUID(w, id)
	w.Text(remote)
}

func decodeRemote(r *der.Reader) string {
	name := r.Text()
	if r.Err() == nil && len(name) > MaxRemote {
		r.Fail(fmt.Errorf("the name of a remote has %d octets", len(name)))
	}
	return name
}

func decodeRemotes(r *der.Reader) []string {
	var names []string
	for in := r.Enter(der.Sequence); in.More(); {
		names = append(names, decodeRemote(&in))
	}
	return names
}
