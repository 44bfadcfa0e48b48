package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// replyMemory bounds what large replies that clients are slow to take hold
	// together.
	replyMemory = 64 << 20
	// smallReply is what a reply may hold without a share of that.
	smallReply = 64 << 10
	// replyPatience is how long a client waits for a share.
	replyPatience = 30 * time.Second
)

// replies is the memory of the replies that are being sent.
type replies struct{ shares *semaphore.Weighted }

func newReplies() replies { return replies{semaphore.NewWeighted(replyMemory)} }

// take waits for a share of so many octets, which done gives back. One that is
// larger than all there is is given when nobody else has any.
func (r replies) take(ctx context.Context, octets int64) (done func(), err error) {
	if octets <= smallReply {
		return func() {}, nil
	}
	octets = min(octets, replyMemory)
	patient, cancel := context.WithTimeout(ctx, replyPatience)
	defer cancel()
	if err := r.shares.Acquire(patient, octets); err != nil {
		if ctx.Err() == nil {
			err = errors.New("the server is busy with large answers to others: ask again later")
		}
		return nil, fmt.Errorf("waiting for memory for the answer: %w", err)
	}
	return func() { r.shares.Release(octets) }, nil
}
