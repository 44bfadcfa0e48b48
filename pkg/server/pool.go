package server

import (
	"container/list"
	"context"
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

// waiter is one worker that waits. assigned is read by the worker's session
// when ctx is done, and after it has left the pool.
type waiter struct {
	platform, worker string
	address          string
	since            time.Time
	gone             func() bool   // asks the connection, without waiting
	element          *list.Element // nil when not in the pool
	assigned         *schedule.Building
	wake             context.CancelFunc
}

// assign gives the worker a build and wakes its session.
func (w *waiter) assign(b *schedule.Building) {
	w.assigned = b
	w.wake()
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
