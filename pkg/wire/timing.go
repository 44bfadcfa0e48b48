package wire

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// frameTime is how long a frame may take to arrive once it has begun, beside
	// one second for every slowFrame octets of it.
	frameTime = 30 * time.Second
	slowFrame = 64 << 10
	// shareTime is how long a frame may wait for its share of the Budget: a little
	// longer than the largest ones of others may take.
	shareTime = frameTime + (MaxScript+4*megabyte)/slowFrame*time.Second
	// streamTime is how long a streamed frame or a write may stand still.
	streamTime = 60 * time.Second
	// slowStream is the number of octets of a streamed frame that buy its sender
	// another second of waiting, so that a drip of octets does not last for ever.
	slowStream = 1 << 10
)

// timing reads from a connection under the deadline that holds at the moment. It
// counts only the time in which the peer is waited for: a receiver that is slow
// to write to its disk costs the peer nothing.
type timing struct {
	net      net.Conn
	received int64           // octets, ever
	patience time.Duration   // how long the peer may send nothing; 0 for ever
	deadline time.Time       // of the frame being read; zero for none
	stream   bool            // the deadline is rolling instead:
	left     time.Duration   // how long the peer may still be waited for
	done     <-chan struct{} // of the context that interrupts reading; nil for none
}

var errInterrupted = errors.New("interrupted")

// Read implements io.Reader.
func (t *timing) Read(p []byte) (int, error) {
	begun := time.Now()
	deadline := t.deadline
	if t.stream {
		deadline = begun.Add(t.left)
	}
	if silent := begun.Add(t.patience); t.patience > 0 && (deadline.IsZero() || silent.Before(deadline)) {
		deadline = silent
	}
	if err := t.net.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	// Only now: what interruptBy sets before is overwritten above, what it sets
	// later ends the read below.
	select {
	case <-t.done:
		return 0, errInterrupted
	default:
	}
	n, err := t.net.Read(p)
	t.received += int64(n)
	if t.stream {
		t.left = min(streamTime, t.left-time.Since(begun)+time.Duration(n)*(time.Second/slowStream))
	}
	return n, err
}

// patient lets reads wait as long as it takes.
func (t *timing) patient() { t.deadline, t.stream = time.Time{}, false }

// within bounds the time for everything read from now on.
func (t *timing) within(d time.Duration) { t.deadline, t.stream = time.Now().Add(d), false }

// extend gives more time to what within bounds.
func (t *timing) extend(d time.Duration) { t.deadline = t.deadline.Add(d) }

// rolling bounds the time lost in the reads from now on, and gives some back for
// what they bring.
func (t *timing) rolling() { t.stream, t.left = true, streamTime }

// interruptBy makes reads fail from when ctx is done until the function
// returned is called.
func (t *timing) interruptBy(ctx context.Context) func() {
	t.done = ctx.Done()
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		t.net.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection wakes the reader as well
	})
	return func() {
		if !stop() {
			<-woken // or it would end a later read
		}
		t.done = nil
	}
}

// timedWriter gives each piece of at most a megabyte streamTime to leave.
type timedWriter struct{ net net.Conn }

// Write implements io.Writer.
func (t timedWriter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		if err := t.net.SetWriteDeadline(time.Now().Add(streamTime)); err != nil {
			return written, err
		}
		n, err := t.net.Write(p[written:min(len(p), written+megabyte)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
