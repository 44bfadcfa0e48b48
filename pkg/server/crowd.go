package server

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// politeTime is how long a client may pause between two requests before it has
// to give way to another peer.
const politeTime = time.Second

// errCrowded is why a connection ends that nobody was using.
var errCrowded = errors.New("the server has too many connections, and this one was idle: connect again")

// crowd knows the connections whose clients pause between two requests. Safe for
// concurrent use.
type crowd struct {
	mu   sync.Mutex
	idle list.List // of *idler, the one that has paused longest first
}

type idler struct {
	since time.Time
	leave func(error) // ends the connection
}

// pause adds a connection until the function returned is called.
func (c *crowd) pause(leave func(error)) (goOn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.idle.PushBack(&idler{time.Now(), leave})
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.idle.Remove(e)
	}
}

// giveWay ends the connection that has been idle longest, if that is long enough,
// and returns when to ask again.
func (c *crowd) giveWay() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.idle.Front()
	if first == nil {
		return politeTime
	}
	oldest := first.Value.(*idler)
	if left := politeTime - time.Since(oldest.since); left > 0 {
		return left
	}
	c.idle.Remove(first)
	oldest.leave(errCrowded)
	return politeTime
}
