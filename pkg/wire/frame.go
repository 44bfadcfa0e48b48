package wire

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// frameHeader is the number of octets of a frame's length.
	frameHeader = 8
	// smallFrame is the largest frame that needs no share of the Budget, and the
	// largest buffer that is kept for another one.
	smallFrame = 64 << 10
	// firstStep is what a frame gets before anything of it has come.
	firstStep = 4 << 10
)

// Budget bounds the memory that the large frames being received take together,
// over all connections that share it. A frame's share is given back by its
// connection's next Receive or Close.
type Budget struct{ sem *semaphore.Weighted }

// NewBudget allows that many octets at a time; at least one largest frame that
// a server takes fits however small it is.
func NewBudget(octets int64) *Budget {
	return &Budget{semaphore.NewWeighted(max(octets, MaxScript+2*megabyte))}
}

// buffers are those of small frames, received and sent. A connection that waits
// holds none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// putBuffer keeps b for another frame, unless it has become too large for that.
func putBuffer(b *[]byte) {
	if cap(*b) <= 2*smallFrame {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// readFrame reads a frame into memory that grows with what has really come.
func (c *Conn) readFrame(ctx context.Context, size int64) error {
	if size > smallFrame && c.budget != nil {
		begun := time.Now()
		if err := c.takeShare(ctx, size); err != nil {
			return err
		}
		c.timing.extend(time.Since(begun))
	}
	c.timing.extend(time.Duration(size/slowFrame) * time.Second)
	c.frame = buffers.Get().(*[]byte)
	data := *c.frame
	for have := int64(0); have < size; have = int64(len(data)) {
		step := min(size-have, max(firstStep, int64(cap(data))-have, have))
		data = slices.Grow(data, int(step))[:have+step]
		*c.frame = data
		if _, err := io.ReadFull(c.in, data[have:]); err != nil {
			return err
		}
	}
	return nil
}

// takeShare waits until the budget has room for size octets.
func (c *Conn) takeShare(ctx context.Context, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, shareTime)
	defer cancel()
	if err := c.budget.sem.Acquire(ctx, size); err != nil {
		return fmt.Errorf("waiting for memory for %d octets: %w", size, err)
	}
	c.held.Store(size)
	return nil
}

// returnShare gives back what takeShare took.
func (c *Conn) returnShare() {
	if n := c.held.Swap(0); n > 0 {
		c.budget.sem.Release(n)
	}
}

// release gives back everything that the last frame took.
func (c *Conn) release() {
	c.returnShare()
	if c.frame != nil {
		putBuffer(c.frame)
		c.frame = nil
	}
}
