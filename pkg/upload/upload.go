// Package upload delivers ended builds to one remote each: it offers it each build,
// again and again until the remote has it. [Frontend] is a remote that is a web
// frontend; package hooks is another, for which the server has the same queue.
//
// It keeps nothing on disk. The set of builds to deliver is in the server's
// journal; the server adds them all after a start, and each new one as it ends.
// The one invariant: [Journal.Delivered] is called only for a build of which the
// remote said that it has it, and such a build is not sent again.
//
//	Add ─▸ lane of its job ─▸ due ─▸ sent ─▸ the remote has it ──▸ Journal.Delivered
//	              ▲                   ├───── RefusedError ───────▸ Journal.Parked
//	              └── later ──────────┼───── any other error
//	                                  └───── BuildError ─▸ a lane of its own ─▸ due ...
//
// The builds of one job are sent one after the other, in the order of Add; a few
// jobs are served at a time. A build that can not be delivered as it is (it is
// refused, or can not be read) does not hold the others back: what would have to
// happen for it to go may never happen.
package upload

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// Send makes one try to hand a build over, and returns nil when the remote has it;
// size is how many octets it has. It is called from several goroutines, and returns
// soon after ctx is done. The text of its errors is for people, and without secrets.
type Send func(ctx context.Context, id uuid.UUID) (size int64, err error)

// RefusedError is an error of [Send]: the same again is of no use before somebody has
// changed something.
type RefusedError struct{ Text string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Text }

// BuildError is an error of [Send]: it is about this build, others may work.
type BuildError struct{ Text string }

// Error implements error.
func (e *BuildError) Error() string { return e.Text }

// Journal hears what became of builds. When a method returns nil, that is durable,
// and the build is not sent any more. After an error of Delivered it is called
// again, later; after one of Parked, when the build was refused again. Both are
// also called for a build that was just sent as the context of Run was done; then,
// too, they have some seconds.
type Journal interface {
	// Delivered is told that the remote has the build.
	Delivered(ctx context.Context, id uuid.UUID) error
	// Parked is told that the remote does not take the build, and why.
	Parked(ctx context.Context, id uuid.UUID, reason string) error
}

// Limits bound the work of an Outbox. A field that is zero has its default.
type Limits struct {
	// Parallel is how many builds are sent at a time, each of another job: 4.
	Parallel int
	// Shortest and Longest bound the delay before the next try. The first is
	// drawn below Shortest, each further one below the double of that, up to
	// Longest: 1 s and 15 min.
	Shortest, Longest time.Duration
}

// Item is a build that is to be delivered, as shown to people.
type Item struct {
	UUID    uuid.UUID
	Job     string
	Sending bool // at this moment
	Tries   int  // that have ended
	// Next is when it is tried again. It is zero while it is sent, and while it
	// waits for an earlier build of its job.
	Next time.Time
	// Err is why the last try was none; empty before.
	Err string
}

// Outbox delivers builds to one remote. Its methods are safe for concurrent use.
type Outbox struct {
	send    Send
	journal Journal
	log     zerolog.Logger
	limits  Limits

	mu      sync.Mutex
	queue   queue
	changed chan struct{} // closed when the queue changes, and replaced
}

// New makes an Outbox for the remote of that name. Nothing is sent before Run.
func New(remote string, send Send, journal Journal, limits Limits, log zerolog.Logger) *Outbox {
	return &Outbox{
		send:    send,
		journal: journal,
		log:     log.With().Str("peer", remote).Logger(),
		limits:  limits.orDefaults(),
		queue:   newQueue(),
		changed: make(chan struct{}),
	}
}

func (l Limits) orDefaults() Limits {
	if l.Parallel == 0 {
		l.Parallel = 4
	}
	if l.Shortest == 0 {
		l.Shortest = time.Second
	}
	if l.Longest == 0 {
		l.Longest = 15 * time.Minute
	}
	return l
}

// Add hands over a build that has ended, or that was parked and is to be sent
// again. It never waits. A build that is here already is not added again.
func (o *Outbox) Add(id uuid.UUID, job string) {
	o.change(func(now time.Time) { o.queue.add(id, job, now) })
}

// Retry makes the next try of a build come at once: of its job's builds, that is,
// of which the first goes first.
func (o *Outbox) Retry(id uuid.UUID) {
	o.change(func(now time.Time) { o.queue.hasten(id, now) })
}

// Drop forgets a build. One that is being sent may still arrive.
func (o *Outbox) Drop(id uuid.UUID) {
	o.change(func(now time.Time) { o.queue.drop(id, now) })
}

// Status lists the builds that are to be delivered, in the order of Add.
func (o *Outbox) Status() []Item {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.list()
}

// change changes the queue, and makes those look at it that wait for it.
func (o *Outbox) change(by func(now time.Time)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	by(time.Now())
	close(o.changed)
	o.changed = make(chan struct{})
}
