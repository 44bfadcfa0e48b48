package schedule

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Event is one change of the state. The events are those of this package; their
// comments have the record, [n] EXPLICIT SEQUENCE { ... }. Instant, Job, Plan,
// Result, Run and their encoding are those of package job, and
//
//	Uuid    ::= UTF8String (SIZE (16))
//	Ticket  ::= SEQUENCE { run INTEGER, platform UTF8String }
//	Tickets ::= SEQUENCE OF Ticket
//	Runs    ::= SEQUENCE OF INTEGER
//	Flag    ::= INTEGER (0|1)
//
// Records may grow trailing fields: readers skip those that they do not know, and
// take those for zero that an older record does not have.
type Event interface {
	// encode writes the fields, without the SEQUENCE around them.
	encode(w *der.Writer)
	// tag is n.
	tag() int
	// apply changes the state, or returns an error and leaves it alone.
	apply(s *State) error
}

// The tags. They are on disk: a new event takes the next one, none is used again.
const (
	tagScheduled = iota
	tagUnscheduled
	tagExecuted
	tagRescheduled
	tagCameDue
	tagPlatformSeen
	tagPlatformDropped
	tagPlatformUndropped
	tagHandedOut
	tagFinished
	tagCancelled
	tagDelivered
	tagRestoredEntry
	tagRestoredRun
	tagRestoredBuilding
	tagRestoredUpload
	tagRestoredCounter
	tagDecided
	tagWished
	tagExpanded
)

const (
	tagPostsAddressed = iota + 21
	tagPostParked
	tagPostFreed
	tagPostDropped
)

// decoders read the fields of each event.
var decoders = [...]func(*der.Reader) Event{
	tagScheduled:         decodeScheduled,
	tagUnscheduled:       decodeUnscheduled,
	tagExecuted:          decodeExecuted,
	tagRescheduled:       decodeRescheduled,
	tagCameDue:           decodeCameDue,
	tagPlatformSeen:      decodePlatformSeen,
	tagPlatformDropped:   decodePlatformDropped,
	tagPlatformUndropped: decodePlatformUndropped,
	tagHandedOut:         decodeHandedOut,
	tagFinished:          decodeFinished,
	tagCancelled:         decodeCancelled,
	tagDelivered:         decodeDelivered,
	tagRestoredEntry:     decodeRestoredEntry,
	tagRestoredRun:       decodeRestoredRun,
	tagRestoredBuilding:  decodeRestoredBuilding,
	tagRestoredUpload:    decodeRestoredUpload,
	tagRestoredCounter:   decodeRestoredCounter,
	tagDecided:           decodeDecided,
	tagWished:            decodeWished,
	tagExpanded:          decodeExpanded,
	tagPostsAddressed:    decodePostsAddressed,
	tagPostParked:        decodePostParked,
	tagPostFreed:         decodePostFreed,
	tagPostDropped:       decodePostDropped,
}

// Encode makes the record of an event.
func Encode(e Event) []byte {
	var w der.Writer
	w.Explicit(e.tag(), func() {
		w.Sequence(func() { e.encode(&w) })
	})
	return w.Data
}

// Decode is the inverse of [Encode]. What it returns shares no memory with the
// record. An error means that the record is damaged, or of a newer version.
func Decode(record []byte) (Event, error) {
	r := der.NewReader(record)
	n, in := r.Choice()
	if r.Err() == nil && (n >= len(decoders) || decoders[n] == nil) {
		return nil, fmt.Errorf("reading event: [%d] is unknown; was it written by a newer version?", n)
	}
	fields := in.Enter(der.Sequence)
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("reading event: %w", err)
	}
	e := decoders[n](&fields)
	in.Done()
	r.Done()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("reading event %T: %w", e, err)
	}
	return e, nil
}

func encodeTickets(w *der.Writer, tickets []Ticket) {
	w.Sequence(func() {
		for _, t := range tickets {
			w.Sequence(func() {
				w.Int(int64(t.Run))
				w.Text(t.Platform)
			})
		}
	})
}

func decodeTickets(r *der.Reader) []Ticket {
	var tickets []Ticket
	for in := r.Enter(der.Sequence); in.More(); {
		t := in.Enter(der.Sequence)
		tickets = append(tickets, Ticket{Run: decodeRunID(&t), Platform: t.Text()})
	}
	return tickets
}

func encodeRunIDs(w *der.Writer, ids []uint64) {
	w.Sequence(func() {
		for _, id := range ids {
			w.Int(int64(id))
		}
	})
}

func decodeRunIDs(r *der.Reader) []uint64 {
	var ids []uint64
	for in := r.Enter(der.Sequence); in.More(); {
		ids = append(ids, decodeRunID(&in))
	}
	return ids
}

func decodeRunID(r *der.Reader) uint64 {
	id := r.Int()
	if r.Err() == nil && (id <= 0 || id > maxID) {
		r.Fail(fmt.Errorf("run id %d", id))
	}
	return uint64(id)
}

func encodeUUID(w *der.Writer, id uuid.UUID) { w.Octets(id[:]) }

func decodeTries(r *der.Reader) int {
	n := r.Int()
	if r.Err() == nil && (n < 0 || n > maxTries) {
		r.Fail(fmt.Errorf("%d tries", n))
	}
	return int(n)
}

// decodeCount reads how many ends there were in a row.
func decodeCount(r *der.Reader) int32 { return int32(decodeTries(r)) } //nolint:gosec // at most maxTries

// The bounds of what a record may say; no policy and no counter gets there.
const (
	maxTries = 1 << 30
	maxID    = 1 << 60
)

// decodeNext reads the time that an entry is due.
func decodeNext(r *der.Reader) time.Time {
	next := job.DecodeTime(r)
	if r.Err() == nil && !next.Equal(next.Truncate(time.Millisecond)) {
		r.Fail(fmt.Errorf("next time %v is not in whole milliseconds", next))
	}
	return next
}
