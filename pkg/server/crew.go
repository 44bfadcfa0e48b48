package server

import (
	"context"
	"errors"
	"sync"

	"builder/pkg/stack"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// crew is the workers that can come back, by identity: their connections, and the
// builds that they hold. Safe for concurrent use.
type crew struct {
	mu    sync.Mutex
	links map[string]*link
	held  map[uuid.UUID]*held
	// conducting are the goroutines of the builds.
	conducting sync.WaitGroup
}

func newCrew() *crew { return &crew{links: map[string]*link{}, held: map[uuid.UUID]*held{}} }

// errStale ends a connection that its worker has given up. What it says there came
// late, and is not true any more.
var errStale = errors.New("there is a newer connection of the worker")

// enter makes l the connection of its worker. An older one ends first: it is
// dead and has not noticed yet, or the same identity is used twice.
func (c *crew) enter(l *link) error {
	for {
		c.mu.Lock()
		old := c.links[l.identity]
		if old == nil {
			c.links[l.identity] = l
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if old.began.After(l.began) {
			return errStale
		}
		l.log.Warn().Str("old", old.conn.RemoteAddr()).Msg("a new connection of the worker replaces the old one")
		old.conn.Close()
		<-old.left
	}
}

// leave is the end of l. Its builds are on their own from now on.
func (c *crew) leave(l *link) {
	c.mu.Lock()
	delete(c.links, l.identity)
	builds := c.of(l.identity)
	c.mu.Unlock()
	for _, h := range builds {
		h.detach(l)
	}
	close(l.left)
}

// of are the builds of a worker. mu is held.
func (c *crew) of(identity string) []*held {
	var builds []*held
	for _, h := range c.held {
		if h.worker == identity {
			builds = append(builds, h)
		}
	}
	return builds
}

// builds are those that a worker holds, as far as is known.
func (c *crew) builds(identity string) map[uuid.UUID]*held {
	c.mu.Lock()
	defer c.mu.Unlock()
	builds := map[uuid.UUID]*held{}
	for _, h := range c.of(identity) {
		builds[h.UUID] = h
	}
	return builds
}

// find is the build of that uuid if the worker holds it; foreign says that another
// worker does.
func (c *crew) find(identity string, id uuid.UUID) (h *held, foreign bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h = c.held[id]
	if h != nil && h.worker != identity {
		return nil, true
	}
	return h, false
}

// begin conducts a build to its end.
func (c *crew) begin(ctx context.Context, h *held) {
	c.mu.Lock()
	c.held[h.UUID] = h
	c.mu.Unlock()
	c.conducting.Go(func() {
		stack.Grow()
		h.conduct(ctx)
		select {
		case <-h.live.ended:
		default:
			return // the server ends: nobody hears of the build before the next one
		}
		c.mu.Lock()
		delete(c.held, h.UUID)
		c.mu.Unlock()
		h.settle()
	})
}

// canResume reports whether a worker's builds outlive its connection.
func canResume(peer wire.Peer) bool {
	return peer.Own() && peer.ID != "" && peer.Can(wire.CapResume)
}
