package container

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
)

// warm is a place made ahead. It is used once.
type warm struct {
	shape shape
	made  chan struct{} // closed when it is made; what follows is set then
	place *place
	err   error
}

func (w *warm) discard() error {
	<-w.made
	if w.place == nil {
		return nil // the next build tells why
	}
	return w.place.Destroy()
}

// ready takes a place of that shape that was made ahead, or is being made; nil if
// there is none.
func (s *Sandbox) ready(ctx context.Context, sh shape) (*place, error) {
	for {
		w := s.take(sh)
		if w == nil {
			return nil, nil
		}
		select {
		case <-w.made:
		case <-ctx.Done():
			s.ahead.Go(func() { w.discard() }) //nolint:errcheck // the next Sweep finds it
			return nil, context.Cause(ctx)
		}
		if w.err == nil {
			return w.place, nil
		}
	}
}

func (s *Sandbox) take(sh shape) *warm {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.warm {
		if w.shape == sh {
			s.warm = append(s.warm[:i:i], s.warm[i+1:]...)
			return w
		}
	}
	return nil
}

// stock makes places ahead, like that of the build that runs: the next one is most
// often like the last. It waits for nothing.
func (s *Sandbox) stock(sh shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for len(s.warm) < s.conf.Warm {
		s.makeAhead(sh)
	}
	if len(s.warm) > 0 && s.warm[0].shape != sh { // jobs have changed: by and by, so do these
		old := s.warm[0]
		s.warm = s.warm[1:]
		s.ahead.Go(func() { old.discard() }) //nolint:errcheck // the next Sweep finds it
		s.makeAhead(sh)
	}
}

// makeAhead begins to make a place. The caller holds the lock.
func (s *Sandbox) makeAhead(sh shape) {
	w := &warm{shape: sh, made: make(chan struct{})}
	s.warm = append(s.warm, w)
	s.ahead.Go(func() {
		defer close(w.made)
		ctx, cancel := context.WithTimeoutCause(context.Background(), callLimit, errors.New("containerd takes too long"))
		defer cancel()
		w.place, w.err = s.create(ctx, s.prefix+"warm-"+strings.ToLower(rand.Text()[:12]), sh)
	})
}
