package schedule

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// Entry is a scheduled job. It is never changed, only replaced.
type Entry struct {
	Job  job.Job
	Plan job.Plan
	// Next is when the job is due, in whole milliseconds; zero is never.
	Next time.Time
	// Last is the build of the job that ended last, nil before the first.
	Last *Ended
	// Losses is how many builds of the job in a row, of whatever runs, have ended
	// since their worker did; 3 park it.
	Losses int32
	// Setbacks is how many in a row have ended for a reason of the server's.
	Setbacks int32
}

// lossesToPark is how many workers in a row a job may take down.
const lossesToPark = 3

// Parked reports whether the job is suspected of ending its workers. Its queued
// runs stay where they are and are not handed out, and its times pass without
// queueing others, until somebody executes it.
func (e *Entry) Parked() bool { return e.Losses >= lossesToPark }

// Ended is the end of a build. It is never changed.
type Ended struct {
	UUID     uuid.UUID
	Result   job.Result // its text may be cut, the build's record has it all
	Finished time.Time
}

// slot is the place of an entry: it stays when the entry is replaced.
type slot struct {
	entry *Entry
	index int // in the due heap, -1 if not in it
}

// put adds the entry, or replaces the one of its name. Runs of a job that is
// parked by that, or freed, change their places.
func (s *State) put(e *Entry) {
	at, ok := s.entries[e.Job.Name]
	if !ok {
		at = &slot{entry: &Entry{}, index: -1}
		s.entries[e.Job.Name] = at
	}
	changed := at.entry.Parked() != e.Parked()
	at.entry = e
	if changed {
		s.park(e.Job.Name, e.Parked())
	}
	switch {
	case at.index < 0 && !e.Next.IsZero():
		heap.Push(&s.due, at)
	case at.index >= 0 && !e.Next.IsZero():
		heap.Fix(&s.due, at.index)
	case at.index >= 0:
		heap.Remove(&s.due, at.index)
	}
}

// remove takes the entry of that name away.
func (s *State) remove(name string) {
	if at := s.entries[name]; at.index >= 0 {
		heap.Remove(&s.due, at.index)
	}
	delete(s.entries, name)
}

// dueHeap has the entries that are due some time, the earliest at its root.
type dueHeap []*slot

// Len implements heap.Interface.
func (h dueHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h dueHeap) Less(i, j int) bool { return compareDue(h[i].entry, h[j].entry) < 0 }

// Swap implements heap.Interface.
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	at := x.(*slot)
	at.index = len(*h)
	*h = append(*h, at)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	at := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	at.index = -1
	return at
}

// until lists the entries that are due at now, the earliest first. It visits
// them and their children only, and leaves the heap alone.
func (h dueHeap) until(now time.Time) []*Entry {
	var found []*Entry
	var visit func(i int)
	visit = func(i int) {
		if i < len(h) && !h[i].entry.Next.After(now) {
			found = append(found, h[i].entry)
			visit(2*i + 1)
			visit(2*i + 2)
		}
	}
	visit(0)
	slices.SortFunc(found, compareDue)
	return found
}

// compareDue orders entries by time, those of one time by name.
func compareDue(a, b *Entry) int {
	return cmp.Or(a.Next.Compare(b.Next), cmp.Compare(a.Job.Name, b.Job.Name))
}
