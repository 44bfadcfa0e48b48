// Package pace bounds how long it may take to send something to an HTTP server: the
// server must go on taking it, and take it fast enough in the end.
package pace

import (
	"context"
	"time"
)

// digestRate is the octets per second at which a server may be expected to hash and
// store what it has received, before it answers.
const digestRate = 8 << 20

// Bounds are those of one kind of server.
type Bounds struct {
	// Stall is for how long it may take nothing and not answer, but for what it needs
	// to digest when it has all; then Stuck is the cause of the end.
	Stall time.Duration
	Stuck error
	// Least and Rate, octets per second, are what all together may take, however
	// steadily it flows; then TooSlow is the cause.
	Least   time.Duration
	Rate    int64
	TooSlow error
}

// Watch bounds one try to send so many octets: the context that it returns ends when
// the server is not fast enough. Whoever sends calls moved when something was taken,
// with what is left, and stop in the end.
func (b Bounds) Watch(ctx context.Context, size int64) (_ context.Context, moved func(left int64), stop func()) {
	ctx, release := context.WithTimeoutCause(ctx, b.Least+at(b.Rate, size), b.TooSlow)
	ctx, end := context.WithCancelCause(ctx)
	stall := time.AfterFunc(b.Stall, func() { end(b.Stuck) })
	moved = func(left int64) {
		patience := b.Stall
		if left == 0 {
			patience += at(digestRate, size)
		}
		stall.Reset(patience)
	}
	return ctx, moved, func() {
		stall.Stop()
		end(nil)
		release()
	}
}

// at is how long so many octets take at so many a second.
func at(rate, octets int64) time.Duration {
	return time.Duration(float64(octets) / float64(rate) * float64(time.Second))
}
