package wire

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// The messages about what remotes are to have yet. A peer must have CapOutbox.
type (
	// Outbox asks for OutboxReply.
	Outbox struct {
		Remote string // "" for all
		Limit  int64  // of the posts in the answer, those first that wait longest
	}
	// OutboxChange asks for a change of posts; OutboxReply tells how many there were.
	OutboxChange struct {
		Action OutboxAction
		What   string // the uuid of a build, or the beginning of one; "" for all
		Remote string // "" for all
	}
	// OutboxReply answers both.
	OutboxReply struct {
		Remotes []RemoteStatus
		Posts   []PostStatus // none after an OutboxChange
		Changed int64        // posts, by an OutboxChange
	}
	// RemoteStatus counts what is in the outbox for one remote.
	RemoteStatus struct {
		Name       string // never a secret; empty for what has no name
		Configured bool   // or nothing is sent there
		Waiting    int64  // posts that are to be sent
		Parked     int64  // those that are not before somebody asks for it
	}
	// PostStatus is a build that a remote does not have.
	PostStatus struct {
		UUID    uuid.UUID
		Job     string
		Remote  string
		Parked  string // why it is not sent; empty if it is to be
		Sending bool   // at this moment
		Tries   int64  // since the server's start
		Next    time.Time
		Error   string // of the last try
	}
)

// OutboxAction is what an OutboxChange does.
type OutboxAction int64

// The actions.
const (
	// OutboxRetry sends at once, also what is parked.
	OutboxRetry OutboxAction = iota
	// OutboxDrop forgets: that remote is not to have the build.
	OutboxDrop
)

// Kind implements [Message].
func (Outbox) Kind() Kind { return KindOutbox }

// Kind implements [Message].
func (OutboxChange) Kind() Kind { return KindOutboxChange }

// Kind implements [Message].
func (OutboxReply) Kind() Kind { return KindOutboxReply }

func (m Outbox) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.Remote)
		w.Int(clampInt(m.Limit))
	})
}

func (m OutboxChange) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Int(int64(m.Action))
		w.Text(m.What)
		w.Text(m.Remote)
	})
}

func (m OutboxReply) encode(w *der.Writer) {
	w.Sequence(func() {
		encodeRemotes(w, m.Remotes)
		w.Sequence(func() {
			for _, p := range m.Posts {
				w.Sequence(func() {
					w.Octets(p.UUID[:])
					w.Text(p.Job)
					w.Text(p.Remote)
					w.Text(p.Parked)
					w.Bool(p.Sending)
					w.Int(clampInt(p.Tries))
					job.EncodeTime(w, p.Next)
					w.Text(p.Error)
				})
			}
		})
		w.Int(clampInt(m.Changed))
	})
}

func encodeRemotes(w *der.Writer, remotes []RemoteStatus) {
	w.Sequence(func() {
		for _, r := range remotes {
			w.Sequence(func() {
				w.Text(r.Name)
				w.Bool(r.Configured)
				w.Int(clampInt(r.Waiting))
				w.Int(clampInt(r.Parked))
			})
		}
	})
}

func decodeRemotes(r *der.Reader) []RemoteStatus {
	var remotes []RemoteStatus
	for in := r.Enter(der.Sequence); in.More(); {
		one := in.Enter(der.Sequence)
		remotes = append(remotes, RemoteStatus{Name: one.Text(), Configured: one.Bool(), Waiting: one.Int(), Parked: one.Int()})
	}
	return remotes
}

// decodeOutbox reads the fields of the messages above.
func decodeOutbox(kind Kind, in *der.Reader) Message {
	switch kind {
	case KindOutbox:
		return Outbox{Remote: in.Text(), Limit: in.Int()}
	case KindOutboxChange:
		m := OutboxChange{Action: OutboxAction(in.Int()), What: in.Text(), Remote: in.Text()}
		if m.Action < OutboxRetry || m.Action > OutboxDrop {
			in.Fail(fmt.Errorf("outbox action %d", m.Action))
		}
		return m
	default:
		return decodeOutboxReply(in)
	}
}

func decodeOutboxReply(in *der.Reader) OutboxReply {
	m := OutboxReply{Remotes: decodeRemotes(in)}
	for posts := in.Enter(der.Sequence); posts.More(); {
		p := posts.Enter(der.Sequence)
		m.Posts = append(m.Posts, PostStatus{
			UUID: job.DecodeUUID(&p), Job: p.Text(), Remote: p.Text(), Parked: p.Text(), Sending: p.Bool(),
			Tries: p.Int(), Next: job.DecodeTime(&p), Error: p.Text(),
		})
	}
	m.Changed = in.Int()
	return m
}
