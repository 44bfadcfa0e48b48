// Package upload delivers ended builds to a web frontend: it POSTs the result
// file of each to one URL, again and again until the remote has it.
//
// It keeps nothing on disk. The set of builds to deliver is in the server's
// journal; the server adds them all after a start, and each new one as it ends.
// The one invariant: [Source.Delivered] is called only for a build of which the
// remote said that it has it, and such a build is not sent again.
//
//	Add ─▸ lane of its job ─▸ due ─▸ sent ─▸ 2xx, 409 ─────────▸ Source.Delivered
//	              ▲                   ├──── 400, 413, no content ▸ a lane of its own ─┐
//	              └── later ──────────┴──── anything else                             │
//	              ▲                                                                   │
//	              └───────────────────────────────────────────────────────────────────┘
//
// The builds of one job are sent one after the other, in the order of Add; a few
// jobs are served at a time. A build that can not be delivered as it is goes on
// by itself, so it does not hold the others back.
package upload

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// Source is where builds come from. Its methods are called from several
// goroutines.
type Source interface {
	// Open prepares the result file of a build: its size in octets, at least 1,
	// and write, which writes exactly these to a writer, and returns soon after that has
	// returned an error. Open is called for each try, write at most once for each
	// Open, and always when there was no error, so it may hold what must be closed.
	Open(id uuid.UUID) (size int64, write func(io.Writer) error, err error)
	// Delivered is told once that the remote has the build; when it returns nil,
	// that is durable, and after an error it is called again, later. It is also
	// called for a build that arrived just as the context of Run was done; then,
	// too, it has some seconds.
	Delivered(ctx context.Context, id uuid.UUID) error
}

// Limits bound the work of an Outbox. A field that is zero has its default.
type Limits struct {
	// Parallel is how many builds are sent at a time, each of another job: 4.
	Parallel int
	// Stall is how long a try may go without an octet moving: a minute.
	Stall time.Duration
	// Shortest and Longest bound the delay before the next try. The first is
	// drawn below Shortest, each further one below the double of that, up to
	// Longest: 1 s and 15 min.
	Shortest, Longest time.Duration
}

// Option changes an Outbox while it is made.
type Option func(*Outbox)

// WithLimits sets the limits.
func WithLimits(l Limits) Option { return func(o *Outbox) { o.limits = l } }

// Item is a build that was not delivered yet, as shown to people.
type Item struct {
	UUID    uuid.UUID
	Job     string
	Sending bool // at this moment
	Tries   int  // that have ended
	// Next is when it is tried again. It is zero while it is sent, and while it
	// waits for an earlier build of its job.
	Next time.Time
	// Err is why the last try was none, without the credentials; empty before.
	Err string
}

// Outbox delivers builds. Its methods are safe for concurrent use.
type Outbox struct {
	remote remote
	client *http.Client
	source Source
	log    zerolog.Logger
	limits Limits

	mu      sync.Mutex
	queue   queue
	changed chan struct{} // closed when the queue changes, and replaced
}

// New makes an Outbox for the URL, which is used exactly as it is given: http or
// https, for builder-web with the path /upload. A user and password in it are
// sent as Basic authentication; octets that have a meaning in URLs are to be
// percent-encoded there. No error, log line or [Item] ever shows the password.
//
// Nothing is sent before Run.
func New(url string, source Source, log zerolog.Logger, options ...Option) (*Outbox, error) {
	to, err := parseRemote(url)
	if err != nil {
		return nil, err
	}
	o := &Outbox{
		remote:  to,
		client:  newClient(),
		source:  source,
		log:     log.With().Str("peer", to.url.Host).Logger(),
		queue:   newQueue(),
		changed: make(chan struct{}),
	}
	for _, option := range options {
		option(o)
	}
	o.limits = o.limits.orDefaults()
	return o, nil
}

func (l Limits) orDefaults() Limits {
	if l.Parallel == 0 {
		l.Parallel = 4
	}
	if l.Stall == 0 {
		l.Stall = time.Minute
	}
	if l.Shortest == 0 {
		l.Shortest = time.Second
	}
	if l.Longest == 0 {
		l.Longest = 15 * time.Minute
	}
	return l
}

// Add hands over a build that has ended. It never waits. A build that is here
// already is not added again.
func (o *Outbox) Add(id uuid.UUID, job string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queue.add(id, job, time.Now()) {
		o.wake()
	}
}

// Status lists the builds that are not delivered yet, in the order of Add.
func (o *Outbox) Status() []Item {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.list()
}

// wake makes those look at the queue again that wait for it. The lock is held.
func (o *Outbox) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}
