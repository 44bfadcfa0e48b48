package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"builder/pkg/der"
)

// ErrSilent says that the peer has sent nothing for longer than KeepAlive allows:
// it hangs, or the network between has gone.
var ErrSilent = errors.New("the peer is silent")

// Patience is how many heartbeats a peer may leave out before it is given up: as many
// of one's own, which the peer was told of as [Introduce.Beat] or [Welcome.Beat].
const Patience = 3

// MinBeat is how often a peer is told at the most, whatever it wants.
const MinBeat = 100 * time.Millisecond

// Beat is how often a peer is told that one is there: as often as the more impatient
// of both wants. What the other one wants is 0 when it did not say.
func Beat(own, other time.Duration) time.Duration {
	if other <= 0 {
		return own
	}
	return min(own, max(other, MinBeat))
}

// KeepAlive makes the connection tell the peer every so often that it is there,
// and makes Receive fail with ErrSilent when nothing came for patience, not one
// octet of anything. Both peers do it, having agreed by CapAlive. It is called
// once, before the first Receive.
func (c *Conn) KeepAlive(every, patience time.Duration) {
	c.timing.patience = patience
	c.beating.Go(func() {
		beat := time.NewTimer(every)
		defer beat.Stop()
		for {
			select {
			case <-c.closed:
				return
			case <-beat.C:
			}
			rest := every - time.Since(time.Unix(0, c.sent.Load()))
			if rest <= 0 {
				if c.Send(Alive{}) != nil {
					return // who uses the connection finds out
				}
				rest = every
			}
			beat.Reset(rest)
		}
	})
}

// skipBeats takes signs of life out of the buffer: nothing is to follow from them,
// so who has shown all else need not wait for more.
func (c *Conn) skipBeats() {
	for c.timing.patience > 0 && c.stream == nil && c.whole() {
		header, err := c.in.Peek(frameHeader)
		if err != nil {
			return
		}
		size := int(binary.BigEndian.Uint64(header)) //nolint:gosec // it is in the buffer
		frame, err := c.in.Peek(frameHeader + size)
		if err != nil {
			return
		}
		tag, err := der.ParseTag(frame[frameHeader:])
		if err != nil || !tag.IsContext() || Kind(tag.Number()) != KindAlive {
			return
		}
		c.in.Discard(len(frame)) //nolint:errcheck // they are in the buffer
	}
}

// silence explains why reading took too long, if that is why.
func (c *Conn) silence(err error) error {
	if c.timing.patience > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: nothing came for %v", ErrSilent, c.timing.patience)
	}
	return err
}
