package server

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"builder/pkg/wire"

	"github.com/google/uuid"
)

// acceptPause is how long accepting rests after an error, so that a process out
// of descriptors does not spin.
const acceptPause = 100 * time.Millisecond

// farewell is what a session has to end by itself when the server does.
const farewell = 2 * time.Second

// accept starts a session for each connection until ctx is done. No error of a
// connection, or of accept itself, ends it: EMFILE passes when sessions end.
// When there are too many, one waits for a place, and the others in the system's
// queue.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	places := make(chan struct{}, s.Sessions)
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			s.Log.Error().Err(err).Msg("accepting a connection")
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		if !s.place(ctx, places) {
			nc.Close()
			return nil
		}
		sessions.Go(func() {
			defer func() { <-places }()
			s.session(ctx, nc)
		})
	}
}

// place waits until there is one for another session: clients that do nothing
// but keep theirs give way. It is false when ctx is done.
func (s *Server) place(ctx context.Context, places chan<- struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	s.Log.Warn().Int("connections", cap(places)).Msg("no more connections are served until one ends")
	for {
		select {
		case places <- struct{}{}:
			return true
		case <-time.After(s.crowd.giveWay()):
		case <-ctx.Done():
			return false
		}
	}
}

// session serves one connection to its end.
func (s *Server) session(ctx context.Context, nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if err := wire.WatchOver(tcp, s.KeepAlive); err != nil {
			s.Log.Warn().Err(err).Msg("watching over a connection")
		}
	}
	began := time.Now()
	conn := wire.NewConn(nc, s.budget)
	defer conn.Close()
	ended := make(chan struct{})
	defer close(ended)
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(farewell):
			conn.Close()
		case <-ended:
		}
	})()
	peer, err := wire.Accept(ctx, conn, wire.Welcome{
		Program: s.Program,
		Capabilities: []string{
			wire.CapDefine, wire.CapStatus, wire.CapWatch, wire.CapBuilds, wire.CapCancel, wire.CapBuild, wire.CapLimits, wire.CapResources,
			wire.CapResume, wire.CapAlive, wire.CapFetch, wire.CapOutbox, wire.CapRetention, wire.CapStore,
		},
		Nonce:  nonce(),
		Stores: s.Stores.Prefixes(),
		Beat:   s.Heartbeat,
	})
	if err == nil {
		if peer.Can(wire.CapAlive) {
			conn.KeepAlive(wire.Beat(s.Heartbeat, peer.Beat), wire.Patience*s.Heartbeat)
		}
		if peer.Role == wire.Worker {
			err = s.serveWorker(ctx, conn, peer, began, nc)
		} else {
			err = s.serveClient(ctx, conn, peer)
		}
	}
	if err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
		return
	}
	s.Log.Info().Err(err).Str("peer", conn.RemoteAddr()).Msg("connection ended")
	if peer.Version != 0 && (peer.Role == wire.Client || peer.Own()) && !isSilence(err) {
		// The protocol has words for it. One that is silent is not told: when it was
		// stopped, and goes on, it shall come again, and not take this for the last word.
		if conn.Send(lastWord(peer, err)) == nil && !errors.Is(err, errCrowded) {
			part(nc)
		}
	}
}

// nonce is one that no connection has had.
func nonce() []byte {
	id := uuid.New()
	return id[:]
}

func isSilence(err error) bool {
	return errors.Is(err, wire.ErrSilent) || errors.Is(err, context.DeadlineExceeded)
}

// lastWord tells a peer why its connection ends.
func lastWord(peer wire.Peer, err error) wire.Message {
	var final dismissal
	if errors.As(err, &final) && peer.Can(wire.CapDismissed) {
		return wire.Dismissed{Text: failureText(err)}
	}
	return wire.Failure{Text: failureText(err)}
}
