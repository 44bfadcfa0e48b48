package wire_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"
)

func TestReceiveLimits(t *testing.T) {
	for _, kind := range allKinds() {
		t.Run(kind.String(), func(t *testing.T) {
			_, err := receiveAll(newScript(append(announce(kind, kind.Limit()+1), 0, 0)), kind)
			if !errors.Is(err, wire.ErrTooLong) {
				t.Errorf("one octet too many: got %v, want %v", err, wire.ErrTooLong)
			}
			_, err = receiveAll(newScript(announce(kind, kind.Limit())), kind)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("at the limit: got %v, want %v", err, io.ErrUnexpectedEOF)
			}
		})
	}
}

func TestReceiveRefuses(t *testing.T) {
	info := frame(wire.Encode(wire.Info{}).Data)
	tests := []struct {
		name  string
		input []byte
		want  error // nil: any but io.EOF
	}{
		{"a clean end", nil, io.EOF},
		{"part of a length", info[:3], io.ErrUnexpectedEOF},
		{"a length only", info[:8], io.ErrUnexpectedEOF},
		{"part of a message", info[:10], io.ErrUnexpectedEOF},
		{"length 0", frame(nil), nil},
		{"negative length", append(bytes.Repeat([]byte{0xff}, 8), 0xa6), nil},
		{"another kind", frame(wire.Encode(wire.Success{}).Data), wire.ErrUnexpected},
		{"a retired kind", frame([]byte{0xa0, 3, 2, 1, 0}), wire.ErrUnexpected},
		{"an unknown kind", frame([]byte{0xbf, 0x7f, 2, 5, 0}), wire.ErrUnexpected},
		{"no message", frame([]byte{0x30, 0}), wire.ErrUnexpected},
		{"text", []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), nil},
		{"a shorter element than the frame", frame(append(info[8:len(info):len(info)], 0)), nil},
		{"a longer element than the frame", frame(info[8 : len(info)-1]), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := wire.NewConn(newScript(tt.input), nil)
			_, err := conn.Receive(t.Context(), wire.KindInfo)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && errors.Is(err, io.EOF) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if _, again := conn.Receive(t.Context(), allKinds()...); !errors.Is(again, err) {
				t.Errorf("second Receive: got %v, want %v", again, err)
			}
		})
	}
}

// drip writes b to c in pieces of n octets, one after each pause, until c closes.
func drip(c net.Conn, b []byte, n int, pause time.Duration) {
	for len(b) > 0 {
		time.Sleep(pause)
		n = min(n, len(b))
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

func TestSlowSender(t *testing.T) {
	schedule := frame(encoded(t, wire.Encode(wire.Schedule{Job: wire.ScriptJob{Script: wire.Blob{Data: make([]byte, 1000)}}})))
	finished := frame(encoded(t, wire.Encode(wire.JobFinished{
		Files: []wire.File{{Path: "a", Data: wire.Blob{Data: make([]byte, 1<<20)}}},
	})))
	tests := []struct {
		name  string
		input []byte
		piece int
		pause time.Duration
		most  time.Duration // until it is cut; 0 if it is not
	}{
		{"a frame, an octet each second", schedule, 1, time.Second, 31 * time.Second},
		{"a frame within its time", schedule, 50, time.Second, 0},
		{"a frame that stops", schedule, 500, 29 * time.Second, 31 * time.Second},
		{"a stream, an octet each 10 seconds", finished, 1, 10 * time.Second, 2 * time.Minute},
		{"a stream of 100 octets a second", finished, 100, time.Second, 2 * time.Minute},
		{"a stream of 2000 octets a second", finished, 2000, time.Second, 0},
		{"a stream of 60000 octets in 50 seconds", finished, 60_000, 50 * time.Second, 0},
		{"a stream that stops", finished, 1000, 70 * time.Second, 2 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				conn := wire.NewConn(near, nil)
				var sender sync.WaitGroup
				sender.Go(func() { drip(far, tt.input, tt.piece, tt.pause) })
				begun := time.Now()
				m, err := conn.Receive(t.Context(), wire.KindSchedule, wire.KindJobFinished)
				if err == nil {
					_, err = readWhole(m)
				}
				waited := time.Since(begun)
				near.Close()
				sender.Wait()
				switch {
				case tt.most == 0 && err != nil:
					t.Errorf("after %v: %v", waited, err)
				case tt.most > 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || waited > tt.most+tt.pause):
					t.Errorf("after %v: got %v, want to be cut within %v", waited, err, tt.most)
				}
			})
		})
	}
}

// TestSlowReceiver: the time that the receiver takes is not the peer's.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		input := frame(encoded(t, wire.Encode(wire.JobFinished{
			Files: []wire.File{{Path: "a", Data: wire.Blob{Data: make([]byte, 1<<20)}}},
		})))
		near, far := net.Pipe()
		conn := wire.NewConn(near, nil)
		var sender sync.WaitGroup
		sender.Go(func() {
			if _, err := far.Write(input); err != nil {
				t.Error(err)
			}
		})
		m, err := conn.Receive(t.Context(), wire.KindJobFinished)
		if err != nil {
			t.Fatal(err)
		}
		file, err := m.(*wire.Incoming).Files.Next()
		for err == nil {
			time.Sleep(time.Hour)
			_, err = io.CopyN(io.Discard, file.Data, 100<<10)
		}
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		sender.Wait()
	})
}

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

func TestBudget(t *testing.T) {
	const size = 10 << 20 // two do not fit into the smallest budget
	script := bytes.Repeat([]byte("x"), size)
	message := frame(encoded(t, wire.Encode(wire.Schedule{Job: wire.ScriptJob{Script: wire.Blob{Data: script}}})))
	receive := func(t *testing.T, conn *wire.Conn) error {
		m, err := conn.Receive(t.Context(), wire.KindSchedule)
		if err == nil && len(m.(wire.Schedule).Job.Script.Data) != size {
			t.Error("not the script")
		}
		return err
	}
	send := func(t *testing.T, group *sync.WaitGroup, budget *wire.Budget, input []byte) *wire.Conn {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		group.Go(func() { far.Write(input) }) // the receiver tells
		return wire.NewConn(near, budget)
	}
	t.Run("one after the other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := wire.NewBudget(0)
			var group sync.WaitGroup
			var mutex sync.Mutex
			held, most, done := 0, 0, 0
			for range 4 {
				conn := send(t, &group, budget, message)
				group.Go(func() {
					if err := receive(t, conn); err != nil {
						t.Error(err)
					}
					mutex.Lock()
					held++
					done++
					most = max(most, held)
					mutex.Unlock()
					time.Sleep(time.Second) // at work with the message
					mutex.Lock()
					held--
					mutex.Unlock()
					conn.Close()
				})
			}
			group.Wait()
			if done != 4 || most != 1 {
				t.Errorf("%d of 4 received, %d at once, want 1", done, most)
			}
		})
	})
	t.Run("a slow one is cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := wire.NewBudget(0)
			var group sync.WaitGroup
			slow := send(t, &group, budget, message[:len(message)/2])
			group.Go(func() {
				if err := receive(t, slow); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
				}
			})
			synctest.Wait()
			if err := receive(t, send(t, &group, budget, message)); err != nil {
				t.Errorf("the one behind it: %v", err)
			}
			slow.Close()
			group.Wait()
		})
	})
	t.Run("small frames need none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := wire.NewBudget(0)
			var group sync.WaitGroup
			if err := receive(t, send(t, &group, budget, message)); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			small := frame(wire.Encode(wire.Lines{Lines: []job.Line{{Data: make([]byte, 50<<10)}}}).Data)
			if _, err := send(t, &group, budget, small).Receive(t.Context(), wire.KindLines); err != nil || time.Since(begun) > 0 {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			group.Wait()
		})
	})
}
