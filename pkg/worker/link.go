package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"builder/pkg/stack"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// link is a connection to a server of our own version, read by one goroutine. A
// courier for each build sends over it.
type link struct {
	*holder
	conn *wire.Conn

	// alive is done when the connection can not be used any more; its cause says
	// why.
	alive  context.Context //nolint:containedctx // it is the connection's, not a call's
	lose   context.CancelCauseFunc
	over   context.Context //nolint:containedctx // the worker's
	active sync.WaitGroup  // the reading goroutine and the couriers
	puts   bool            // the server takes contents that are in the store

	mu       sync.Mutex
	couriers map[uuid.UUID]*courier
}

// newLink makes a link of a connection that has been greeted. Close it.
func (w *holder) newLink(over context.Context, conn *wire.Conn, remote wire.Remote) *link {
	l := &link{holder: w, conn: conn, over: over, couriers: map[uuid.UUID]*courier{}}
	l.alive, l.lose = context.WithCancelCause(over)
	if remote.Can(wire.CapAlive) {
		conn.KeepAlive(wire.Beat(w.KeepAlive, remote.Beat), wire.Patience*w.KeepAlive)
	}
	if w.Store != nil {
		l.puts = remote.Can(wire.CapStore) && slices.Contains(remote.Stores, w.Store.Prefix())
		if !l.puts {
			w.Log.Warn().Str("store", w.Store.Prefix()).Strs("taken", remote.Stores).
				Msg("the server does not take contents of this store (start it with --store): they go to the server")
		}
	}
	return l
}

// Close closes the connection. Builds go on.
func (l *link) Close() {
	l.lose(context.Canceled)
	l.conn.Close() // what is being sent must not wait for a server that does not read
	l.active.Wait()
}

// resume tells the server which builds are held, and lets each go on as it says.
func (l *link) resume() error {
	builds := l.holding()
	var holding wire.Holding
	for _, b := range builds {
		v := b.spool.view()
		holding.Builds = append(holding.Builds, wire.Held{UUID: b.id, Lines: v.lines, Ended: v.done != nil})
	}
	if err := l.conn.Send(holding); err != nil {
		return err
	}
	m, err := l.conn.Receive(l.alive, wire.KindResume, wire.KindFailure, wire.KindDismissed, wire.KindLater)
	if err != nil {
		return fmt.Errorf("asking how to go on: %w", err)
	}
	resume, ok := m.(wire.Resume)
	if !ok {
		return refusal(m)
	}
	if len(resume.Builds) != len(builds) {
		return fmt.Errorf("the server answered for %d builds, %d are held", len(resume.Builds), len(builds))
	}
	l.wishAgain()
	for i, b := range builds {
		r := resume.Builds[i]
		switch {
		case r.UUID != b.id || r.From < 0:
			return fmt.Errorf("the server answered for build %v from line %d, expected %v", r.UUID, r.From, b.id)
		case r.Over != "":
			l.release(b, r.Over)
		default:
			l.send(b, r.From)
		}
	}
	return nil
}

// refusal is what a server says that does not go on.
func refusal(m wire.Message) error {
	switch m := m.(type) {
	case wire.Failure:
		return fmt.Errorf("%w: %s", errRefused, m.Text)
	case wire.Dismissed:
		return fmt.Errorf("%w: the server does not take this worker: %s", errFatal, m.Text)
	case wire.Later:
		return &laterError{m}
	}
	return wire.ErrUnexpected
}

// serve asks for builds until the connection is lost, or nothing is left to do.
func (l *link) serve(ctx, drain context.Context) error {
	l.active.Go(func() {
		l.lose(l.read(ctx))
		l.conn.Close()
	})
	drained := drain.Done()
	for !l.finished(drain) {
		held, running, begun, changed := l.state()
		var again <-chan time.Time
		if drain.Err() == nil && (l.Persistent || begun == 0) && l.vacant() {
			if full := l.room(held, running); full != nil {
				l.Log.Warn().Err(full).Msg("no further build is asked for")
				again = time.After(roomPause)
			} else if err := l.ask(); err != nil {
				return cmp.Or(context.Cause(l.alive), err) // what the server said meanwhile is why
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-drained:
			drained = nil
			// A wish can not be taken back but by a new connection, which also tells
			// the server that what it has just handed out was not received.
			if l.wished() {
				return errRenewed
			}
		case <-l.alive.Done():
			return context.Cause(l.alive)
		}
	}
	return nil
}

// roomPause is how long a worker without room waits before it looks again.
const roomPause = 10 * time.Second

// ask asks for a build for each slot that is free.
func (l *link) ask() error {
	for range l.wish() {
		if err := l.conn.Send(wire.JobRequested{Platform: l.Platform}); err != nil {
			return err
		}
	}
	return nil
}

// read takes what the server says until the connection ends.
func (l *link) read(ctx context.Context) error {
	for {
		m, err := l.conn.Receive(l.alive, wire.KindStart, wire.KindStop, wire.KindWant, wire.KindStored, wire.KindFailure, wire.KindDismissed, wire.KindLater)
		if err != nil {
			return fmt.Errorf("the connection to the server was lost: %w", err)
		}
		switch m := m.(type) {
		case wire.Start:
			err = l.start(ctx, m)
		case wire.Stop:
			l.stopBuild(m)
		case wire.Want:
			l.want(m)
		case wire.Stored:
			err = l.stored(m)
		default:
			err = refusal(m)
		}
		if err != nil {
			return err
		}
	}
}

func (l *link) start(ctx context.Context, m wire.Start) error {
	m.Script = slices.Clone(m.Script) // the connection's buffer is used again
	b, err := l.begin(ctx, l.over, m)
	if err != nil {
		return err
	}
	l.send(b, 0)
	return nil
}

// send starts the courier of a build.
func (l *link) send(b *build, from int64) {
	ctx, stop := context.WithCancel(l.alive)
	c := &courier{link: l, build: b, from: from, want: make(chan struct{}, 1), stop: stop}
	l.mu.Lock()
	l.couriers[b.id] = c
	l.mu.Unlock()
	l.active.Go(func() {
		stack.Grow()
		defer stop()
		c.run(ctx)
	})
}

func (l *link) courier(id uuid.UUID) *courier {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.couriers[id]
}

// want tells a courier that the server lacks contents.
func (l *link) want(m wire.Want) {
	if c := l.courier(m.UUID); c != nil {
		select {
		case c.want <- struct{}{}:
		default:
		}
	}
}

// stored ends a courier: the server has the build, or has no use for it. What
// comes late, for a build that is gone, is nothing new.
func (l *link) stored(m wire.Stored) error {
	c := l.courier(m.UUID)
	if c == nil {
		return nil
	}
	if m.Refused == "" && c.build.spool.view().done == nil {
		return fmt.Errorf("the server has stored build %v, which has not ended", m.UUID)
	}
	l.mu.Lock()
	delete(l.couriers, m.UUID)
	l.mu.Unlock()
	c.answer.Store(&m)
	c.stop()
	return nil
}
