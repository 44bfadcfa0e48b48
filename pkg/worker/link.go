package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// link is a connection to a server, read by one goroutine. Builds are sent over
// it by others. What the server says of a build that has ended may come while
// the next one is waited for, or runs.
type link struct {
	conn *wire.Conn
	own  bool // the server speaks our own version
	log  zerolog.Logger

	// alive is done when the connection can not be used any more; its cause says
	// why.
	alive  context.Context //nolint:containedctx // it is the connection's, not a call's
	lose   context.CancelCauseFunc
	ended  chan struct{} // closed when the reading goroutine has returned
	starts chan assignment

	mu       sync.Mutex
	running  uuid.UUID
	stop     context.CancelCauseFunc
	unstored map[uuid.UUID]bool // ended builds that the server has not answered
	answered chan struct{}      // closed and replaced when one is
}

// assignment is a build as the server hands it out.
type assignment struct {
	id            uuid.UUID
	job, platform string
	script        []byte
	received      time.Time
}

// stopped is why a build is stopped on the server's word.
type stopped struct{ result job.Result }

func (e *stopped) Error() string { return e.result.String() }

// newLink reads conn until it ends, or ctx is done. Close it.
func newLink(ctx context.Context, conn *wire.Conn, own bool, log zerolog.Logger) *link {
	l := &link{
		conn: conn, own: own, log: log, ended: make(chan struct{}), starts: make(chan assignment, 1),
		unstored: map[uuid.UUID]bool{}, answered: make(chan struct{}),
	}
	l.alive, l.lose = context.WithCancelCause(ctx)
	go func() {
		defer close(l.ended)
		l.lose(l.read())
		conn.Close() // what is being sent must not wait for a server that does not read
	}()
	return l
}

// Close closes the connection.
func (l *link) Close() {
	l.lose(context.Canceled)
	<-l.ended
}

// read takes what the server says until the connection ends.
func (l *link) read() error {
	kinds := []wire.Kind{wire.KindJobSchedule, wire.KindFailure}
	if l.own {
		kinds = []wire.Kind{wire.KindStart, wire.KindStop, wire.KindStored, wire.KindFailure, wire.KindDismissed}
	}
	for {
		m, err := l.conn.Receive(l.alive, kinds...)
		if err != nil {
			return fmt.Errorf("the connection to the server was lost: %w", err)
		}
		switch m := m.(type) {
		case wire.JobSchedule:
			kinds = nil // a server of protocol 5 says no more
			err = l.start(assignment{id: m.UUID, job: m.Job.Name, platform: m.Job.Platform, script: m.Job.Script.Data})
		case wire.Start:
			err = l.start(assignment{id: m.Build.UUID, job: m.Build.Job, platform: m.Build.Platform, script: m.Script})
		case wire.Stop:
			l.stopBuild(m)
		case wire.Stored:
			l.stored(m)
		case wire.Failure:
			err = fmt.Errorf("%w: %s", errRefused, m.Text)
		case wire.Dismissed:
			err = fmt.Errorf("%w: the server does not take this worker: %s", errFatal, m.Text)
		}
		if err != nil {
			return err
		}
	}
}

func (l *link) start(a assignment) error {
	a.script = slices.Clone(a.script) // the connection's buffer is used again
	a.received = time.Now()
	select {
	case l.starts <- a:
		return nil
	default:
		return fmt.Errorf("the server sent build %v, for which nobody asked", a.id)
	}
}

// begin names the build that Stop is for.
func (l *link) begin(id uuid.UUID, stop context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running, l.stop = id, stop
}

func (l *link) stopBuild(m wire.Stop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil && m.UUID == l.running {
		l.stop(&stopped{m.Result})
	}
}

// finish sends a build's end. Of a server of protocol 5 no answer is to come.
func (l *link) finish(id uuid.UUID, m wire.Message) error {
	l.mu.Lock()
	l.stop = nil
	if l.own {
		l.unstored[id] = true
	}
	l.mu.Unlock()
	return l.conn.Send(m)
}

func (l *link) stored(m wire.Stored) {
	if m.Refused != "" {
		l.log.Warn().Stringer("build", m.UUID).Str("reason", m.Refused).Msg("the server did not take the build")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.unstored, m.UUID)
	close(l.answered)
	l.answered = make(chan struct{})
}

// settle waits until the server has answered for every build that was sent. An
// error says that it never will.
func (l *link) settle() error {
	for {
		l.mu.Lock()
		left, answered := len(l.unstored), l.answered
		l.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-answered:
		case <-l.alive.Done():
			return context.Cause(l.alive)
		}
	}
}
