package wire_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/wire"
)

func TestReceiveCancelled(t *testing.T) {
	output := frame(wire.Encode(wire.Output{Data: []byte("line")}).Data)
	cause := errors.New("the cause")
	t.Run("while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			conn := wire.NewConn(near, nil)
			for range 3 {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, cause)
				if _, err := conn.Receive(ctx, wire.KindOutput); !errors.Is(err, cause) {
					t.Errorf("got %v, want %v", err, cause)
				}
				if _, err := conn.Receive(ctx, wire.KindOutput); !errors.Is(err, cause) {
					t.Errorf("with a context that is done: got %v, want %v", err, cause)
				}
				cancel()
				go far.Write(output) // the receiver tells
				if _, err := conn.Receive(t.Context(), wire.KindOutput); err != nil {
					t.Errorf("receiving after it: %v", err)
				}
			}
		})
	})
	t.Run("in the middle of a frame", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			conn := wire.NewConn(near, nil)
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
			defer cancel()
			go far.Write(output[:12]) // the receiver tells
			begun := time.Now()
			_, err := conn.Receive(ctx, wire.KindOutput)
			if !errors.Is(err, cause) || time.Since(begun) != time.Second {
				t.Errorf("after %v: got %v, want %v", time.Since(begun), err, cause)
			}
			if _, err := conn.Receive(t.Context(), wire.KindOutput); !errors.Is(err, cause) {
				t.Errorf("receiving after it: got %v, want %v", err, cause)
			}
		})
	})
}

// deadlines is a connection that tells of its read deadlines.
type deadlines struct {
	net.Conn
	before func(t time.Time)
	after  func(t time.Time)
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.before(t)
	defer d.after(t)
	return d.Conn.SetReadDeadline(t)
}

// isPast tells the deadline of an interruption.
func isPast(t time.Time) bool { return !t.IsZero() && t.Before(time.Now()) }

// TestReceiveInterruptedLate: a message comes while the interruption is on its
// way. The interruption does not hit the Receive after it.
func TestReceiveInterruptedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		output := frame(wire.Encode(wire.Output{Data: []byte("line")}).Data)
		near, far := net.Pipe()
		conn := wire.NewConn(&deadlines{near, func(at time.Time) {
			if isPast(at) {
				time.Sleep(time.Minute)
			}
		}, func(time.Time) {}}, nil)
		var sender sync.WaitGroup
		sender.Go(func() {
			for _, pause := range []time.Duration{time.Hour + time.Second, time.Hour} {
				time.Sleep(pause)
				far.Write(output)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for i, ctx := range []context.Context{ctx, t.Context()} {
			if _, err := conn.Receive(ctx, wire.KindOutput); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		sender.Wait()
	})
}

// TestReceiveInterruptedEarly: the interruption comes between the look at the
// context and the setting of a read's own deadline. It is not lost.
func TestReceiveInterruptedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		interrupted := make(chan struct{})
		near, _ := net.Pipe()
		conn := wire.NewConn(&deadlines{near, func(at time.Time) {
			if !isPast(at) {
				cancel()
				<-interrupted
			}
		}, func(at time.Time) {
			if isPast(at) {
				close(interrupted)
			}
		}}, nil)
		if _, err := conn.Receive(ctx, wire.KindOutput); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

var seed = flag.Uint64("seed", 0, "seed of the random instants; 0 draws one")

// TestReceiveCancelledAnyTime: cancelling at any instant between messages loses
// none and spoils no later Receive.
func TestReceiveCancelledAnyTime(t *testing.T) {
	const count = 2000
	near, far := net.Pipe()
	defer near.Close()
	conn := wire.NewConn(near, nil)
	var sender sync.WaitGroup
	sender.Go(func() {
		peer := wire.NewConn(far, nil)
		for i := range count {
			if err := peer.Send(wire.Output{Data: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer sender.Wait()
	defer near.Close()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	got := 0
	for tries := 0; got < count; tries++ {
		ctx, cancel := context.WithCancel(t.Context())
		var canceller sync.WaitGroup
		spin := random.IntN(200)
		canceller.Go(func() {
			for range spin {
				if ctx.Err() != nil {
					return
				}
			}
			cancel()
		})
		m, err := conn.Receive(ctx, wire.KindOutput)
		cancel()
		canceller.Wait()
		switch {
		case err == nil:
			if want := fmt.Sprint(got); string(m.(wire.Output).Data) != want {
				t.Fatalf("got %s, want %s", m.(wire.Output).Data, want)
			}
			got++
		case err.Error() != context.Canceled.Error(): // a pipe hands a frame over in one piece
			t.Fatalf("try %d: %v", tries, err)
		}
	}
}
