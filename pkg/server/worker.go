package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/wire"
)

// serveWorker gives a worker one build after the other, or just one if it
// speaks protocol 5. The connection began before the worker could say anything; nc
// is asked whether it still is there.
func (s *Server) serveWorker(ctx context.Context, conn *wire.Conn, peer wire.Peer, began time.Time, nc net.Conn) error {
	if canResume(peer) {
		return s.serveLink(ctx, conn, peer, began, func() bool { return !open(nc) })
	}
	w := &workerSession{
		Server: s, conn: conn, own: peer.Own(), program: workerProgram(peer), address: conn.RemoteAddr(), since: time.Now(), name: workerName(conn, peer),
		gone: func() bool { return !quiet(nc) },
	}
	defer w.ending.Wait()
	for {
		platform, err := w.request(ctx)
		if err != nil {
			return err
		}
		// A build that ends before the worker has heard of it leaves it waiting.
		for sent := false; !sent; {
			building, err := w.await(ctx, platform)
			if building != nil {
				sent, err = w.run(ctx, building, err)
			}
			if err != nil {
				return err
			}
		}
		if !w.own {
			return nil
		}
	}
}

// workerName is what people are shown: what the worker calls itself, or where it is.
func workerName(conn *wire.Conn, peer wire.Peer) string {
	if peer.Name == "" {
		return conn.RemoteAddr()
	}
	return shorten(peer.Name)
}

// workerProgram is what a worker runs, for people.
func workerProgram(peer wire.Peer) string {
	switch {
	case !peer.Own():
		return fmt.Sprintf("one of protocol %d", peer.Version)
	case peer.Program == "":
		return "one that tells no version"
	}
	return shorten(peer.Program)
}

// shorten bounds what a peer may call itself.
func shorten(name string) string {
	const most = 100
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "")
	}
	return name
}

// workerSession is the connection of one worker.
type workerSession struct {
	*Server
	conn    *wire.Conn
	own     bool // speaks our own version
	program string
	name    string
	address string
	since   time.Time
	gone    func() bool
	ending  sync.WaitGroup // of the build whose end is made durable
}

// request takes the worker's wish for a build. It comes at once, but from a
// worker that has to tidy up after the build before.
func (w *workerSession) request(ctx context.Context) (platform string, err error) {
	patience := requestTime
	if w.own {
		patience = idleTime
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := w.conn.Receive(patient, wire.KindJobRequested)
	if err != nil {
		return "", err
	}
	return m.(wire.JobRequested).Platform, nil
}

// await lets the worker wait until it is given a build. The connection is read
// meanwhile, so a worker that went is noticed at once. With a build, the error
// says that the worker went in the very moment in which it was given.
func (w *workerSession) await(ctx context.Context, platform string) (*schedule.Building, error) {
	waiting, wake := context.WithCancel(ctx)
	defer wake()
	var assigned *schedule.Building // read when the wish has left the pool
	me := &waiter{platform: platform, worker: w.name, address: w.address, since: w.since, gone: w.gone}
	me.given = func(b *schedule.Building) {
		assigned = b
		wake()
	}
	if err := w.join(ctx, platform, func() { w.pool.add(me) }, w.seen); err != nil {
		return nil, err
	}
	_, err := w.conn.Receive(waiting) // nothing may come: it returns when woken, or when the worker went
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return assigned, nil // it has left the pool
	}
	leave := w.owner.look(context.WithoutCancel(ctx), func(*schedule.State) { w.pool.remove(me) })
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx) // if it was given one, the next server ends that
	case assigned != nil:
		return assigned, err
	case leave != nil:
		return nil, leave
	}
	return nil, err
}

// dismissal marks why a worker is refused for good.
type dismissal struct{ error }

func (d dismissal) Unwrap() error { return d.error }

// join adds a wish to the pool. The owner is asked once if the platform is known,
// as it nearly always is; else seen makes it known.
func (s *Server) join(ctx context.Context, platform string, add func(), seen func(context.Context, string) error) error {
	known := false
	err := s.owner.look(ctx, func(st *schedule.State) {
		if _, fresh, err := st.Seen(platform); err == nil && !fresh {
			known = true
			add()
		}
	})
	if err != nil || known {
		return err
	}
	if err := seen(ctx, platform); err != nil {
		return err
	}
	return s.owner.look(ctx, func(*schedule.State) { add() })
}

// seen makes the worker's platform known. A worker of a dropped platform, or
// one with a name that is not allowed, is told so if its protocol has words for
// it; else it is left waiting, as the reference does, until it goes.
func (w *workerSession) seen(ctx context.Context, platform string) error {
	err := w.Server.seen(ctx, platform)
	switch {
	case err == nil:
		return nil
	case w.own:
		return err // the session tells it
	case errors.Is(err, schedule.ErrDropped):
		w.Log.Warn().Str("platform", platform).Str("worker", w.name).Msg("worker of a dropped platform waits")
		return nil // it waits in the pool: nothing is handed out there before undrop-platform
	}
	return err
}

// seen makes a platform known that a worker works for. One that will never be is
// a dismissal.
func (s *Server) seen(ctx context.Context, platform string) error {
	return s.owner.change(ctx, func(st *schedule.State, _ time.Time) ([]schedule.Event, error) {
		e, fresh, err := st.Seen(platform)
		switch {
		case err != nil && !errors.Is(err, schedule.ErrDropped):
			return nil, dismissal{err}
		case err != nil || !fresh:
			return nil, err
		}
		return []schedule.Event{e}, nil
	})
}

// run does one build with the worker, to its durable end, or ends it at once if
// the worker is gone. sent is false when the worker has not heard of it; the
// error says that the connection can not be used any more.
func (w *workerSession) run(ctx context.Context, building *schedule.Building, gone error) (sent bool, err error) {
	b := &tied{build: w.newBuild(building), conn: w.conn, own: w.own, program: w.program}
	result, err := b.conduct(ctx, gone)
	if halted(ctx, err) {
		b.closeDraft()
		return b.sent, err // the server ends; the next one ends the build
	}
	if err == nil && b.finished {
		w.endBeside(ctx, b, result)
		return true, nil
	}
	if end := b.settle(ctx, result); end != nil {
		return b.sent, errors.Join(err, end)
	}
	return b.sent, err
}

// endBeside ends a build while the worker asks for the next one. At most one is
// being ended at a time: a worker must not be faster than the disk.
func (w *workerSession) endBeside(ctx context.Context, b *tied, result job.Result) {
	w.ending.Wait()
	w.ending.Go(func() {
		if err := b.settle(ctx, result); err != nil {
			b.log.Info().Err(err).Msg("ending the build")
			w.conn.Close()
		}
	})
}

// errProtocol marks what a worker must not send.
var errProtocol = errors.New("protocol violation")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}
