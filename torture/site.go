package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// site is an HTTP server of the torture. While it is ill it fails now and then; it
// may be down as well.
type site struct {
	server  http.Server
	address string
	serving sync.WaitGroup
	healed  chan struct{} // closed when it is well for good

	mu    sync.Mutex
	moods *rand.Rand
	ill   bool
	down  bool
}

// serve begins to answer on an address of its own.
func (s *site) serve(ctx context.Context, seed uint64, ill bool, handle http.HandlerFunc) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address, s.ill, s.healed = l.Addr().String(), ill, make(chan struct{})
	s.moods = rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // it should repeat
	s.server = http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.isDown() {
				hangUp()
			}
			handle(w, r)
		}),
	}
	s.serving.Go(func() { s.server.Serve(l) }) //nolint:errcheck // Close ends it
	return nil
}

// hangUp ends a connection without an answer.
func hangUp() { panic(http.ErrAbortHandler) }

func (s *site) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// setDown reports false when it is so already.
func (s *site) setDown(down bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.down != down
	s.down = down
	return changed
}

// mood is one of n for the next request; 0 as long as it is well.
func (s *site) mood(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ill {
		return 0
	}
	return s.moods.IntN(n)
}

// heal makes it well for good.
func (s *site) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down = false; s.ill {
		s.ill = false
		close(s.healed)
	}
}

// stick takes a part of the request, and then nothing any more.
func (s *site) stick(r *http.Request) {
	io.CopyN(io.Discard, r.Body, r.ContentLength/2) //nolint:errcheck // whatever came
	select {
	case <-s.healed:
	case <-r.Context().Done():
	}
	hangUp()
}

// fail takes it down for a while; it reports false when it is down already.
func (s *site) fail(ctx context.Context, takes time.Duration) bool {
	if !s.setDown(true) {
		return false
	}
	rest(ctx, takes)
	s.setDown(false)
	return true
}

// Close ends it.
func (s *site) Close() error {
	s.heal()
	err := s.server.Close()
	s.serving.Wait()
	return err
}
