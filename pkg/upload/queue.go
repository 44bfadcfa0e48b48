package upload

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/google/uuid"
)

// queue has the builds that are not delivered yet. It has no lock and no clock.
type queue struct {
	items map[uuid.UUID]*item
	added uint64           // counts the calls of add
	lanes map[string]*lane // by job; lanes of single builds are only in due
	due   dueHeap          // the lanes of which no build is being sent
}

// item is a build. It is in one lane.
type item struct {
	Item
	seq       uint64
	delivered bool // what remains is to tell the journal
	lane      *lane
	dropped   bool // to be forgotten when its turn comes, or its try has ended
	again     bool // added while it was sent: its parking was undone before we knew of it
}

// lane has builds that go one after the other; it is never empty. A lane that was
// taken still gets builds added at its end.
type lane struct {
	job   string // whose lane this is, if shared
	items []*item
	due   time.Time // of the first
	alone bool      // made for one build
	index int       // in the heap, -1 while it is taken
}

func newQueue() queue {
	return queue{items: make(map[uuid.UUID]*item), lanes: make(map[string]*lane)}
}

// add puts a build at the end of its job's lane, unless it is here already.
func (q *queue) add(id uuid.UUID, job string, now time.Time) {
	if it := q.items[id]; it != nil {
		it.again = it.Sending
		return
	}
	q.added++
	it := &item{Item: Item{UUID: id, Job: job}, seq: q.added}
	q.items[id] = it
	if l := q.lanes[job]; l != nil {
		l.items = append(l.items, it)
		it.lane = l
		return
	}
	l := &lane{job: job, items: []*item{it}}
	it.lane = l
	q.lanes[job] = l
	q.push(l, now)
}

// take takes the lane that is due, and its first build, which is to be sent; or
// says when the next one is due, zero if there is none.
func (q *queue) take(now time.Time) (l *lane, first *item, next time.Time) {
	for len(q.due) > 0 {
		if next = q.due[0].due; next.After(now) {
			return nil, nil, next
		}
		l = heap.Pop(&q.due).(*lane)
		if first = l.items[0]; first.dropped {
			q.shift(l, now)
			continue
		}
		first.Sending, first.Next = true, time.Time{}
		return l, first, time.Time{}
	}
	return nil, nil, time.Time{}
}

// hasten makes the build's lane due now.
func (q *queue) hasten(id uuid.UUID, now time.Time) {
	if it := q.items[id]; it != nil && it.lane.index >= 0 {
		it.lane.due, it.lane.items[0].Next = now, now
		heap.Fix(&q.due, it.lane.index)
	}
}

// drop forgets a build. Its place in its lane goes when it is the first there: now,
// if it is that.
func (q *queue) drop(id uuid.UUID, now time.Time) {
	it := q.items[id]
	if it == nil {
		return
	}
	it.dropped = true
	if it.Sending {
		return
	}
	if it.lane.items[0] == it {
		q.hasten(id, now)
	}
	delete(q.items, id)
}

// later puts the lane back, to be taken again at the given time.
func (q *queue) later(l *lane, at time.Time) {
	if l.items[0].dropped {
		q.done(l, at)
		return
	}
	l.items[0].Sending, l.items[0].again = false, false
	q.push(l, at)
}

// aside gives the first build of the lane a lane of its own, to be taken at the
// given time; the next one of the lane is due at once.
func (q *queue) aside(l *lane, at, now time.Time) {
	if l.alone || l.items[0].dropped {
		q.later(l, at)
		return
	}
	it := q.shift(l, now)
	it.Sending = false
	it.lane = &lane{items: []*item{it}, alone: true}
	q.push(it.lane, at)
}

// done forgets the first build of the lane; the next one is due at once.
func (q *queue) done(l *lane, now time.Time) {
	it := q.shift(l, now)
	delete(q.items, it.UUID)
	if it.again && !it.dropped {
		q.add(it.UUID, it.Job, now)
	}
}

// shift takes the first build out of the lane, and puts back what is left.
func (q *queue) shift(l *lane, now time.Time) *item {
	it := l.items[0]
	l.items[0] = nil
	l.items = l.items[1:]
	switch {
	case len(l.items) > 0:
		q.push(l, now)
	case !l.alone:
		delete(q.lanes, l.job)
	}
	return it
}

func (q *queue) push(l *lane, at time.Time) {
	l.due = at
	l.items[0].Next = at
	heap.Push(&q.due, l)
}

func (q *queue) list() []Item {
	all := make([]*item, 0, len(q.items))
	for _, it := range q.items {
		all = append(all, it)
	}
	slices.SortFunc(all, func(a, b *item) int { return cmp.Compare(a.seq, b.seq) })
	list := make([]Item, len(all))
	for i, it := range all {
		list[i] = it.Item
	}
	return list
}

// dueHeap has the lane that is due first at its root; of equals, the one whose
// build came first.
type dueHeap []*lane

// Len implements heap.Interface.
func (h dueHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h dueHeap) Less(i, j int) bool {
	return cmp.Or(h[i].due.Compare(h[j].due), cmp.Compare(h[i].items[0].seq, h[j].items[0].seq)) < 0
}

// Swap implements heap.Interface.
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	l.index = -1
	*h = (*h)[:last]
	return l
}
