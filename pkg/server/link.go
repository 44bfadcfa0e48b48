package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/life"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// link is the connection of a worker that can come back. Its session's goroutine
// reads; the builds send.
type link struct {
	*Server
	conn     *wire.Conn
	peer     wire.Peer
	log      zerolog.Logger
	identity string
	name     string
	began    time.Time // the connection, before its worker could say anything
	since    time.Time // that the worker is there
	gone     func() bool
	resumed  chan struct{} // closed when the worker was told how its builds go on: nothing may come before that
	left     chan struct{} // closed when nothing of the connection is used any more

	wishes    map[*waiter]bool // that wait in the pool; the owner's goroutine keeps it
	unflushed map[*held]bool
}

// maxWishes is how many builds a worker may wait for at a time.
const maxWishes = 1000

// serveLink serves a worker that can come back until its connection ends.
func (s *Server) serveLink(ctx context.Context, conn *wire.Conn, peer wire.Peer, began time.Time, gone func() bool) error {
	l := &link{
		Server: s, conn: conn, peer: peer, identity: peer.ID, name: workerName(conn, peer), began: began, since: time.Now(), gone: gone,
		resumed: make(chan struct{}), left: make(chan struct{}), wishes: map[*waiter]bool{}, unflushed: map[*held]bool{},
	}
	l.log = s.Log.With().Str("worker", l.name).Logger()
	patient, cancel := context.WithTimeout(ctx, idleTime)
	defer cancel()
	m, err := conn.Receive(patient, wire.KindHolding, wire.KindDeliver)
	if err != nil {
		return err
	}
	if m, ok := m.(wire.Deliver); ok {
		return s.deliver(ctx, conn, peer.ID, m.UUID)
	}
	if err := s.crew.enter(l); err != nil {
		return err
	}
	defer s.crew.leave(l)
	defer l.withdraw(context.WithoutCancel(ctx))
	resumed := sync.OnceFunc(func() { close(l.resumed) })
	defer resumed()
	resume, err := l.resume(ctx, m.(wire.Holding))
	if err != nil {
		return err
	}
	if err := conn.Send(resume); err != nil {
		return err
	}
	resumed()
	for {
		m, err := conn.Receive(ctx, wire.KindJobRequested, wire.KindLines, wire.KindDone)
		if ctx.Err() != nil {
			l.send(wire.Later{After: laterTime, Reason: "the server is stopped"})
			return err
		}
		if err != nil {
			return err
		}
		if err := l.take(ctx, m); err != nil {
			return err
		}
	}
}

// laterTime is when a worker may try again after the server was stopped.
const laterTime = 2 * time.Second

// resume says how each build goes on that the worker holds. Those that it does
// not hold never reached it.
func (l *link) resume(ctx context.Context, m wire.Holding) (wire.Resume, error) {
	expected := l.crew.builds(l.identity)
	for _, h := range expected {
		if h.newer(l) {
			return wire.Resume{}, errStale
		}
	}
	var answer wire.Resume
	for _, b := range m.Builds {
		h := expected[b.UUID]
		delete(expected, b.UUID)
		r := wire.Resumption{UUID: b.UUID}
		goes := false
		if h != nil {
			if r.From, goes = h.attach(l); !goes {
				select {
				case <-h.settled:
				case <-ctx.Done():
					return wire.Resume{}, errStopped
				}
			}
		}
		switch {
		case goes:
		case b.Ended:
			r.From = b.Lines // its Done is answered from the record
		default:
			r.Over = l.overText(b.UUID)
		}
		l.log.Info().Stringer("build", b.UUID).Int64("from", r.From).Str("over", r.Over).Msg("build resumed")
		answer.Builds = append(answer.Builds, r)
	}
	for _, h := range expected {
		h.neverHeard()
	}
	return answer, nil
}

// overText says why a build does not run here.
func (s *Server) overText(id uuid.UUID) string {
	build, err := s.store.Build(id)
	switch {
	case err == nil:
		return fmt.Sprintf("the build has ended already: %v", build.Result)
	case errors.Is(err, store.ErrNotFound):
		return "the server does not know the build"
	}
	return failureText(err)
}

// take serves one message.
func (l *link) take(ctx context.Context, m wire.Message) (err error) {
	var h *held
	switch m := m.(type) {
	case wire.JobRequested:
		return l.wish(ctx, m.Platform)
	case wire.Lines:
		if h, err = l.find(m.UUID); h != nil {
			err = h.lines(m)
			l.unflushed[h] = true
		}
	case wire.Done:
		taken := false
		if h, err = l.find(m.UUID); h != nil {
			taken, err = h.ended(m)
		}
		if err == nil && !taken {
			l.answerLate(m)
		}
	}
	if h != nil && errors.Is(err, errProtocol) {
		h.condemn(err)
	}
	if !l.conn.Buffered() || err != nil {
		for h := range l.unflushed {
			h.flush()
		}
		clear(l.unflushed)
	}
	return err
}

// find is the build that a message is for; nil if it does not run any more.
func (l *link) find(id uuid.UUID) (*held, error) {
	h, foreign := l.crew.find(l.identity, id)
	if foreign {
		return nil, violation("build %v is another worker's", id)
	}
	return h, nil
}

// wish puts the worker into the pool once more.
func (l *link) wish(ctx context.Context, platform string) error {
	me := &waiter{platform: platform, worker: l.name, identity: l.identity, address: l.conn.RemoteAddr(), since: l.since, gone: l.gone}
	me.given = func(b *schedule.Building) {
		delete(l.wishes, me)
		l.hold(ctx, b, l)
	}
	tooMany := false
	err := l.join(ctx, platform, func() {
		if tooMany = len(l.wishes) >= maxWishes; !tooMany {
			l.wishes[me] = true
			l.pool.add(me)
		}
	}, l.seen)
	if tooMany {
		return violation("more than %d builds are asked for", maxWishes)
	}
	return err
}

// withdraw takes the wishes back.
func (l *link) withdraw(ctx context.Context) {
	// The owner has stopped when it does not answer: nobody is given a build then.
	l.owner.look(ctx, func(*schedule.State) { //nolint:errcheck // see above
		for me := range l.wishes {
			l.pool.remove(me)
		}
	})
}

// answerLate answers an end that came when the build had ended here before.
func (l *link) answerLate(m wire.Done) {
	build, err := l.store.Build(m.UUID)
	if err != nil {
		l.send(wire.Stored{UUID: m.UUID, Refused: l.overText(m.UUID)})
		return
	}
	l.answer(m.UUID, build.Result, &m.Result, false)
}

// answer tells the worker of a build what its durable end means for it.
func (l *link) answer(id uuid.UUID, end job.Result, said *job.Result, unheard bool) {
	switch life.Ended(end, said, unheard) {
	case life.Nothing:
	case life.Stop:
		l.send(wire.Stop{UUID: id, Result: end})
	case life.Forget:
		l.send(wire.Stored{UUID: id})
	case life.SetAside:
		l.send(wire.Stored{UUID: id, Refused: l.overText(id)})
	}
}

// send is for what is told again on the next connection, or need not be.
func (l *link) send(m wire.Message) {
	<-l.resumed
	if err := l.conn.Send(m); err != nil {
		l.log.Info().Err(err).Msg("telling the worker")
	}
}
