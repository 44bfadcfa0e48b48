package wire

import (
	"errors"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// The messages of builds that outlive a connection (capability CapResume).
type (
	// Holding is a worker's first message: the builds that it holds, running or
	// ended. Resume answers it.
	Holding struct{ Builds []Held }
	// Held is one of them.
	Held struct {
		UUID  uuid.UUID
		Lines int64 // of its console that the worker has
		Ended bool
	}
	// Resume says how each build that is held goes on, in the same order.
	Resume struct{ Builds []Resumption }
	// Resumption is one of them.
	Resumption struct {
		UUID uuid.UUID
		From int64 // number of the first line that the server lacks
		// Over, if not empty, says why the server has no use for the build: it has
		// ended, or was never handed out. The worker stops it and keeps it aside.
		Over string
	}
	// Done tells that a build has ended. All its lines were sent before it. The
	// artifacts are offered: Want follows, if the server lacks any of their
	// contents, and Stored when all is durable. It may come again, with locations
	// of contents that were lacking.
	Done struct {
		UUID      uuid.UUID
		Lines     int64 // of its whole console
		Result    job.Result
		Duration  time.Duration // of the script, on the worker's monotonic clock
		Notes     []string
		Artifacts []job.Artifact
		Place     job.Place
	}
	// Want says which contents of a build the server lacks, and how much of each
	// it has already. On the worker's connection the list is empty: it says that
	// there is something to deliver.
	Want struct {
		UUID     uuid.UUID
		Contents []Wanted
	}
	// Wanted is one content, wanted from an offset on.
	Wanted struct {
		Content job.Content
		Offset  int64
	}
	// Deliver is the one request on a connection of its own, by which a worker
	// delivers a build's contents. Want answers it. For each content of the list
	// Content or Missing follows, in its order; then Want again, with what is
	// still lacking, or Success when nothing is.
	Deliver struct{ UUID uuid.UUID }
	// Content carries the rest of a content from an offset on. Received as
	// IncomingContent.
	Content struct {
		Content job.Content
		Offset  int64
		Data    Blob // of Content.Size - Offset octets
	}
	// Missing says that the worker can not deliver a content any more.
	Missing struct {
		Content job.Content
		Reason  string
	}
	// Alive says nothing but that the peer is there.
	Alive struct{}
	// Later tells a worker that the server is about to go, and when to try again.
	Later struct {
		After  time.Duration
		Reason string
	}
)

// Kind implements [Message].
func (Holding) Kind() Kind { return KindHolding }

// Kind implements [Message].
func (Resume) Kind() Kind { return KindResume }

// Kind implements [Message].
func (Done) Kind() Kind { return KindDone }

// Kind implements [Message].
func (Want) Kind() Kind { return KindWant }

// Kind implements [Message].
func (Deliver) Kind() Kind { return KindDeliver }

// Kind implements [Message].
func (Content) Kind() Kind { return KindContent }

// Kind implements [Message].
func (Missing) Kind() Kind { return KindMissing }

// Kind implements [Message].
func (Alive) Kind() Kind { return KindAlive }

// Kind implements [Message].
func (Later) Kind() Kind { return KindLater }

func (m Holding) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Sequence(func() {
			for _, b := range m.Builds {
				w.Sequence(func() {
					w.Octets(b.UUID[:])
					w.Int(clampInt(b.Lines))
					w.Bool(b.Ended)
				})
			}
		})
	})
}

func (m Resume) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Sequence(func() {
			for _, b := range m.Builds {
				w.Sequence(func() {
					w.Octets(b.UUID[:])
					w.Int(clampInt(b.From))
					w.Text(b.Over)
				})
			}
		})
	})
}

func (m Done) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		w.Int(clampInt(m.Lines))
		job.EncodeResult(w, m.Result)
		w.Int(clampInt(m.Duration))
		encodeTexts(w, m.Notes)
		job.EncodeArtifacts(w, m.Artifacts)
		job.EncodePlace(w, m.Place)
	})
}

func (m Want) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		w.Sequence(func() {
			for _, wanted := range m.Contents {
				w.Sequence(func() {
					job.EncodeContent(w, wanted.Content)
					w.Int(clampInt(wanted.Offset))
				})
			}
		})
	})
}

func (m Deliver) encode(w *der.Writer) {
	w.Sequence(func() { w.Octets(m.UUID[:]) })
}

func (m Content) encode(w *der.Writer) {
	w.Sequence(func() {
		job.EncodeContent(w, m.Content)
		w.Int(clampInt(m.Offset))
		m.Data.encode(w)
	})
}

func (m Missing) encode(w *der.Writer) {
	w.Sequence(func() {
		job.EncodeContent(w, m.Content)
		w.Text(m.Reason)
	})
}

func (Alive) encode(w *der.Writer) { w.Sequence(func() {}) }

func (m Later) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Int(clampInt(m.After))
		w.Text(m.Reason)
	})
}

// decodeResuming reads the fields of the messages above.
func decodeResuming(kind Kind, r, in *der.Reader) Message {
	switch kind {
	case KindHolding:
		var m Holding
		for builds := in.Enter(der.Sequence); builds.More(); {
			b := builds.Enter(der.Sequence)
			m.Builds = append(m.Builds, Held{UUID: job.DecodeUUID(&b), Lines: b.Int(), Ended: b.Bool()})
		}
		return m
	case KindResume:
		var m Resume
		for builds := in.Enter(der.Sequence); builds.More(); {
			b := builds.Enter(der.Sequence)
			m.Builds = append(m.Builds, Resumption{UUID: job.DecodeUUID(&b), From: b.Int(), Over: b.Text()})
		}
		return m
	case KindDone:
		m := Done{
			UUID: job.DecodeUUID(in), Lines: in.Int(), Result: job.DecodeResult(in), Duration: time.Duration(in.Int()),
			Notes: decodeTexts(in, maxNoteCount), Artifacts: job.DecodeArtifacts(in),
		}
		if in.More() {
			m.Place = job.DecodePlace(in)
		}
		return m
	case KindWant:
		m := Want{UUID: job.DecodeUUID(in)}
		for contents := in.Enter(der.Sequence); contents.More(); {
			c := contents.Enter(der.Sequence)
			m.Contents = append(m.Contents, Wanted{Content: job.DecodeContent(&c), Offset: c.Int()})
		}
		return m
	case KindDeliver:
		return Deliver{UUID: job.DecodeUUID(in)}
	case KindMissing:
		return Missing{Content: job.DecodeContent(in), Reason: in.Text()}
	case KindAlive:
		return Alive{}
	case KindLater:
		return Later{After: time.Duration(in.Int()), Reason: in.Text()}
	default:
		r.Fail(errors.New("unknown message"))
		return nil
	}
}
