package wire

import (
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// CapRetention is our server's: Pin, Pinned, Prune, PruneReply, Job.Retention in
// Define, and what they did in ListReply and StatusReply.
const CapRetention = "retention"

// The messages about which builds are kept.
type (
	// Pin keeps a build, or with Unpin lets it go again. It is named by its uuid or a
	// unique prefix of it.
	Pin struct {
		What  string
		Unpin bool
	}
	// Pinned comes before the Success of Pin, and names the build.
	Pinned struct{ UUID uuid.UUID }
	// Prune removes what retention says, of one job or of all; with Dry it only asks.
	Prune struct {
		Job string // "" for all
		Dry bool
	}
	// PruneReply answers Prune: what went, or would go.
	PruneReply struct {
		Builds       []PrunedBuild
		Freed        int64 // octets of the disk
		Orphans      int64 // contents that no build and no job named
		OrphanOctets int64
		// Damaged is how many records can not be read: then no content goes.
		Damaged int64
	}
	// PrunedBuild is one of them.
	PrunedBuild struct {
		UUID          uuid.UUID
		Job, Platform string
		Finished      time.Time
		ArtifactsOnly bool   // its record and its console stay
		Bound         string // what it was beyond, as the flag is called: "keep-days"
		Octets        int64  // what it takes that no newer build of its job does
	}
	// BuildMark says of a build in a ListReply what its record does not.
	BuildMark struct {
		UUID   uuid.UUID
		Pinned bool
		Pruned bool      // its artifacts are gone
		At     time.Time // since when they are; zero if that is not known
	}
)

// Kind implements [Message].
func (Pin) Kind() Kind { return KindPin }

// Kind implements [Message].
func (Pinned) Kind() Kind { return KindPinned }

// Kind implements [Message].
func (Prune) Kind() Kind { return KindPrune }

// Kind implements [Message].
func (PruneReply) Kind() Kind { return KindPruneReply }

func (m Pin) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.What)
		w.Bool(m.Unpin)
	})
}

func (m Pinned) encode(w *der.Writer) {
	w.Sequence(func() { w.Octets(m.UUID[:]) })
}

func (m Prune) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.Job)
		w.Bool(m.Dry)
	})
}

func (m PruneReply) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Sequence(func() {
			for _, b := range m.Builds {
				w.Sequence(func() {
					w.Octets(b.UUID[:])
					w.Text(b.Job)
					w.Text(b.Platform)
					job.EncodeTime(w, b.Finished)
					w.Bool(b.ArtifactsOnly)
					w.Text(b.Bound)
					w.Int(clampInt(b.Octets))
				})
			}
		})
		for _, n := range []int64{m.Freed, m.Orphans, m.OrphanOctets, m.Damaged} {
			w.Int(clampInt(n))
		}
	})
}

func encodeMarks(w *der.Writer, marks []BuildMark) {
	w.Sequence(func() {
		for _, m := range marks {
			w.Sequence(func() {
				w.Octets(m.UUID[:])
				w.Bool(m.Pinned)
				w.Bool(m.Pruned)
				job.EncodeTime(w, m.At)
			})
		}
	})
}

func decodeMarks(r *der.Reader) []BuildMark {
	var marks []BuildMark
	for in := r.Enter(der.Sequence); in.More(); {
		m := in.Enter(der.Sequence)
		marks = append(marks, BuildMark{UUID: job.DecodeUUID(&m), Pinned: m.Bool(), Pruned: m.Bool(), At: job.DecodeTime(&m)})
	}
	return marks
}

// decodeRetention reads the fields of the messages above.
func decodeRetention(kind Kind, r, in *der.Reader) Message {
	switch kind {
	case KindPin:
		return Pin{What: in.Text(), Unpin: in.Bool()}
	case KindPinned:
		return Pinned{UUID: job.DecodeUUID(in)}
	case KindPrune:
		return Prune{Job: in.Text(), Dry: in.Bool()}
	case KindPruneReply:
		var m PruneReply
		for builds := in.Enter(der.Sequence); builds.More(); {
			b := builds.Enter(der.Sequence)
			m.Builds = append(m.Builds, PrunedBuild{
				UUID: job.DecodeUUID(&b), Job: b.Text(), Platform: b.Text(), Finished: job.DecodeTime(&b),
				ArtifactsOnly: b.Bool(), Bound: b.Text(), Octets: b.Int(),
			})
		}
		m.Freed, m.Orphans, m.OrphanOctets, m.Damaged = in.Int(), in.Int(), in.Int(), in.Int()
		return m
	default:
		return decodeResuming(kind, r, in)
	}
}
