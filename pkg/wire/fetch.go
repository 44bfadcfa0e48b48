package wire

import (
	"crypto/sha256"
	"fmt"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// The messages by which a client gets artifacts (capability CapFetch).
type (
	// Describe asks for Described: by a job's name for its latest build that
	// succeeded, on Platform if that is set; by a uuid, or a unique prefix of one,
	// for that build.
	Describe struct{ What, Platform string }
	// Described is the record of a build that has ended, artifacts included.
	Described struct{ Build job.Build }
	// Fetch asks for artifacts of a build, up to MaxFetch. For each of them comes, in
	// their order, Content or Missing, and then Success. Failure is for all of them.
	Fetch struct {
		UUID  uuid.UUID
		Files []FilePart
	}
	// FilePart is an artifact from an offset on.
	FilePart struct {
		Path   string
		Offset int64
	}
	// Find asks for the builds that have an artifact with that hash. ListReply
	// answers it: newest first, with those of their artifacts only.
	Find struct {
		SHA256 [sha256.Size]byte
		Limit  int64
	}
)

// MaxFetch is how many artifacts one Fetch may ask for. Their paths together are
// bounded by the frame.
const MaxFetch = 1000

// Kind implements [Message].
func (Describe) Kind() Kind { return KindDescribe }

// Kind implements [Message].
func (Described) Kind() Kind { return KindDescribed }

// Kind implements [Message].
func (Fetch) Kind() Kind { return KindFetch }

// Kind implements [Message].
func (Find) Kind() Kind { return KindFind }

func (m Describe) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.What)
		w.Text(m.Platform)
	})
}

func (m Described) encode(w *der.Writer) {
	w.Sequence(func() { job.EncodeBuild(w, m.Build) })
}

func (m Fetch) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		w.Sequence(func() {
			for _, f := range m.Files {
				w.Sequence(func() {
					w.Text(f.Path)
					w.Int(clampInt(f.Offset))
				})
			}
		})
	})
}

func (m Find) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.SHA256[:])
		w.Int(clampInt(m.Limit))
	})
}

// decodeFetching reads the fields of the messages above.
func decodeFetching(kind Kind, in *der.Reader) Message {
	switch kind {
	case KindDescribe:
		return Describe{What: in.Text(), Platform: in.Text()}
	case KindDescribed:
		return Described{Build: job.DecodeBuild(in)}
	case KindFetch:
		return decodeFetch(in)
	default:
		return decodeFind(in)
	}
}

func decodeFetch(in *der.Reader) Message {
	m := Fetch{UUID: job.DecodeUUID(in)}
	for files := in.Enter(der.Sequence); files.More(); {
		if len(m.Files) == MaxFetch {
			in.Fail(fmt.Errorf("more than %d artifacts", MaxFetch))
			return m
		}
		f := files.Enter(der.Sequence)
		m.Files = append(m.Files, FilePart{Path: f.Text(), Offset: f.Int()})
	}
	return m
}

func decodeFind(in *der.Reader) Message {
	var m Find
	hash := in.Octets()
	if in.Err() == nil && len(hash) != len(m.SHA256) {
		in.Fail(fmt.Errorf("hash of %d octets", len(hash)))
	}
	copy(m.SHA256[:], hash)
	m.Limit = in.Int()
	return m
}
