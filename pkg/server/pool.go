package server

import (
	"container/list"
	"iter"
	"maps"
	"slices"
	"time"

	"builder/pkg/schedule"
)

// pool holds the workers that wait for a run, by platform, the longest-waiting
// one first. It belongs to the owner's goroutine.
type pool struct {
	waiting map[string]*list.List // of *waiter
}

func newPool() *pool { return &pool{waiting: map[string]*list.List{}} }

// waiter is one wish of a worker for a build.
type waiter struct {
	platform, worker string
	identity         string // of a worker that can come back, else empty
	address          string
	since            time.Time
	gone             func() bool   // asks the connection, without waiting
	element          *list.Element // nil when not in the pool
	// given is called by the owner, who does not wait, when the hand-out is
	// durable. The wish is not in the pool any more.
	given func(*schedule.Building)
}

func (p *pool) add(w *waiter) {
	if p.waiting[w.platform] == nil {
		p.waiting[w.platform] = list.New()
	}
	w.element = p.waiting[w.platform].PushBack(w)
}

// putBack makes w the first again.
func (p *pool) putBack(w *waiter) {
	if p.waiting[w.platform] == nil {
		p.waiting[w.platform] = list.New()
	}
	w.element = p.waiting[w.platform].PushFront(w)
}

// remove takes w out; it does nothing when w is not in.
func (p *pool) remove(w *waiter) {
	if w.element == nil {
		return
	}
	queue := p.waiting[w.platform]
	queue.Remove(w.element)
	w.element = nil
	if queue.Len() == 0 {
		delete(p.waiting, w.platform)
	}
}

func (p *pool) first(platform string) *waiter {
	if queue := p.waiting[platform]; queue != nil {
		return queue.Front().Value.(*waiter)
	}
	return nil
}

// all are those that wait for a platform, the first first.
func (p *pool) all(platform string) []*waiter {
	var all []*waiter
	if queue := p.waiting[platform]; queue != nil {
		for e := queue.Front(); e != nil; e = e.Next() {
			all = append(all, e.Value.(*waiter))
		}
	}
	return all
}

// platforms yields those that a worker waits for, in a fixed order.
func (p *pool) platforms() iter.Seq[string] {
	return slices.Values(slices.Sorted(maps.Keys(p.waiting)))
}
