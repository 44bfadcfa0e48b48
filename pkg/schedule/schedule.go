// Package schedule is the server's state as a pure value: what is to be done
// and when, what waits, what is being built, what is still to be uploaded. It
// has no clock, file, lock or goroutine.
//
//	entry      a scheduled job, its plan, the time it is due next
//	platform   known or dropped, with the queue of runs that wait for it
//	building   one attempt at a run, on one worker
//	outbox     ended builds that some remote does not have yet
//
// A change has two halves. A decision (Schedule, Execute, Due, HandOut, ...)
// looks at the state and returns an event, or an error for people; it changes
// nothing. [State.Advance] applies the event; that is deterministic, the same
// events give the same state on every machine. The owner of a State decides,
// advances, writes the event to its journal and tells the world, in this order
// and one decision at a time: an event fits the state that it was decided on.
//
// The invariant: a job is at most once in the queue of one platform.
//
// An event is one record, [n] EXPLICIT SEQUENCE in DER; see event.go.
package schedule

import (
	"container/list"
	"errors"
	"fmt"
	"iter"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// State is the whole schedule. What it hands out ([Entry], [job.Run],
// [Building]) is never changed afterwards, only replaced, so readers may keep
// it. The State itself is not safe for concurrent use.
type State struct {
	entries   map[string]*slot
	due       dueHeap
	platforms map[string]*platform
	waiting   map[uint64]*waiting
	building  map[uuid.UUID]*Building
	outbox    *list.List                    // of Post, in the order of their end
	unsent    map[uuid.UUID][]*list.Element // one for each remote
	runs      uint64                        // the last run id given
}

// New is a State in which nothing is known.
func New() *State {
	return &State{
		entries:   map[string]*slot{},
		platforms: map[string]*platform{},
		waiting:   map[uint64]*waiting{},
		building:  map[uuid.UUID]*Building{},
		outbox:    list.New(),
		unsent:    map[uuid.UUID][]*list.Element{},
	}
}

// Advance applies an event. An error means that the event was not decided on
// this state: when it comes from a journal, the journal is damaged. The state
// is then as it was.
func (s *State) Advance(e Event) error {
	if err := e.apply(s); err != nil {
		return fmt.Errorf("applying %T: %w", e, err)
	}
	return nil
}

// Apply applies a record made by [Encode]; errors are as those of [Decode] and
// [State.Advance].
func (s *State) Apply(record []byte) error {
	e, err := Decode(record)
	if err != nil {
		return err
	}
	return s.Advance(e)
}

// Errors that a decision's error may wrap, for those who have to tell them apart.
var (
	// ErrUnknownJob: no job of that name is in the schedule.
	ErrUnknownJob = errors.New("unknown job")
	// ErrExists: a job of that name is in the schedule already.
	ErrExists = errors.New("job name already used")
	// ErrDropped: the platform was dropped.
	ErrDropped = errors.New("platform is dropped")
	// ErrEnded: the build has ended already, or was never handed out.
	ErrEnded = errors.New("build has ended already")
	// ErrDecided: how the build ends is decided already.
	ErrDecided = errors.New("end of the build is decided already")
	// ErrNotQueued: the run is not (or no longer) in a queue.
	ErrNotQueued = errors.New("run is not queued")
)

// Entry is the entry of that name, nil if there is none.
func (s *State) Entry(name string) *Entry {
	if at, ok := s.entries[name]; ok {
		return at.entry
	}
	return nil
}

// Len is the number of entries.
func (s *State) Len() int { return len(s.entries) }

// Entries yields all entries, in no order.
func (s *State) Entries() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, at := range s.entries {
			if !yield(at.entry) {
				return
			}
		}
	}
}

// Run is the queued run of that id, nil if there is none.
func (s *State) Run(id uint64) *job.Run {
	if w, ok := s.waiting[id]; ok {
		return w.run
	}
	return nil
}

// Building is the build of that uuid, nil if it does not run (any more).
func (s *State) Building(id uuid.UUID) *Building { return s.building[id] }

// Buildings yields all builds that run, in no order.
func (s *State) Buildings() iter.Seq[*Building] {
	return func(yield func(*Building) bool) {
		for _, b := range s.building {
			if !yield(b) {
				return
			}
		}
	}
}

// NextDue is the earliest time at which time alone changes something: an entry
// is due, or a run that waits for its next try becomes ready. Runs that are
// ready at now lack a worker, and those of parked jobs a person, not time; a due
// entry counts however late it is.
// ok is false when there is no such time.
func (s *State) NextDue(now time.Time) (next time.Time, ok bool) {
	if len(s.due) > 0 {
		next, ok = s.due[0].entry.Next, true
	}
	for _, p := range s.platforms {
		after, delayed := p.nextReady(now)
		if delayed && !p.dropped && (!ok || after.Before(next)) {
			next, ok = after, true
		}
	}
	return next, ok
}

// The instants that a record can carry: those after its zero, which means no
// time at all, and those that fit its INTEGER.
var (
	epoch    = time.Unix(0, 0).UTC()
	earliest = epoch.Add(time.Millisecond)
	latest   = time.Unix(0, der.MaxInt).UTC().Truncate(time.Millisecond) // in 2116
)

// instant is t as a record carries it: in UTC, without a monotonic clock,
// within bounds.
func instant(t time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t.UTC().Round(0)
}

// planned is instant in the precision of the schedule, which is the protocol's.
func planned(t time.Time) time.Time { return instant(t).Truncate(time.Millisecond) }
