package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"builder/pkg/console"
	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// live is a build that runs: what observers and those who cancel share with the
// session of its worker.
type live struct {
	*schedule.Building
	begun     chan struct{}   // closed when console is there
	console   *console.Writer // set before begun is closed; nil if there is none
	ended     chan struct{}   // closed when build and again are set
	build     job.Build
	again     bool                      // another try of the run follows
	away      atomic.Pointer[time.Time] // since when its worker is away; nil or zero if it is not
	observers atomic.Int64
	// stopping is done when the build is to be stopped, by a *stopError.
	stopping context.Context //nolint:containedctx // it is the build's, not a call's
	stop     context.CancelCauseFunc
}

// buildStatus is a build as its worker and clients are shown it.
func buildStatus(b *schedule.Building) wire.BuildStatus {
	return wire.BuildStatus{
		UUID: b.UUID, Run: b.Run.ID, Try: b.Try, Job: b.Run.Job.Name, Platform: b.Run.Platform,
		Worker: b.Worker, Started: b.Started,
	}
}

// awaySince is since when the worker is away, zero if it is not.
func (l *live) awaySince() time.Time {
	if away := l.away.Load(); away != nil {
		return *away
	}
	return time.Time{}
}

func (l *live) setAway(at time.Time) { l.away.Store(&at) }

// cancel asks for the build's end with that result; the first wish counts.
func (l *live) cancel(r job.Result) { l.stop(&stopError{r}) }

// wish is the result that somebody wants the build to end with; nil if nobody
// wants it to end.
func (l *live) wish() *job.Result {
	var stop *stopError
	if errors.As(context.Cause(l.stopping), &stop) {
		return &stop.result
	}
	return nil
}

// stopError carries that result.
type stopError struct{ result job.Result }

// Error implements error.
func (e *stopError) Error() string { return e.result.Text }

// buildings are the builds that run. Safe for concurrent use.
type buildings struct {
	mu      sync.Mutex
	byID    map[uuid.UUID]*live
	changed chan struct{} // closed and replaced when a build begins or ends
}

func newBuildings() *buildings {
	return &buildings{byID: map[uuid.UUID]*live{}, changed: make(chan struct{})}
}

// begin makes a build known, when its hand-out is durable.
func (b *buildings) begin(building *schedule.Building) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &live{Building: building, begun: make(chan struct{}), ended: make(chan struct{})}
	l.stopping, l.stop = context.WithCancelCause(context.Background())
	b.byID[building.UUID] = l
	b.wake()
}

// end takes a build out, when its end is durable, and shows it to its observers.
func (b *buildings) end(l *live, build job.Build, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byID, l.UUID)
	l.build, l.again = build, again
	l.stop(nil)
	close(l.ended)
	b.wake()
}

// touch wakes those that wait for a run that may never begin.
func (b *buildings) touch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake()
}

func (b *buildings) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait is closed at the next change.
func (b *buildings) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *buildings) get(id uuid.UUID) *live {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID[id]
}

// newest is the build begun last of those that fit; nil if none does.
func (b *buildings) newest(fits func(*live) bool) *live {
	b.mu.Lock()
	defer b.mu.Unlock()
	var newest *live
	for _, l := range b.byID {
		if fits(l) && (newest == nil || l.Started.After(newest.Started)) {
			newest = l
		}
	}
	return newest
}

// all are the builds that fit, in no order.
func (b *buildings) all(fits func(*live) bool) []*live {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []*live
	for _, l := range b.byID {
		if fits(l) {
			found = append(found, l)
		}
	}
	return found
}

// begunWith are the builds whose uuid a person may mean; none if that is no
// beginning of a uuid.
func (b *buildings) begunWith(typed string) []*live {
	prefix, err := store.ParsePrefix(typed)
	if err != nil {
		return nil
	}
	return b.all(func(l *live) bool { return prefix.Fits(l.UUID) })
}
