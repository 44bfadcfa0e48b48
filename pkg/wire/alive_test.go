package wire_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/wire"
)

// pair is two ends of a connection, closed at the end of the test.
func pair(t *testing.T) (near, far *wire.Conn) {
	a, b := net.Pipe()
	near, far = wire.NewConn(a, nil), wire.NewConn(b, nil)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// TestKeepAlive: two peers that say nothing know of each other, for days, also when
// one of them is less patient.
func TestKeepAlive(t *testing.T) {
	for name, intervals := range map[string][2]time.Duration{
		"alike": {15 * time.Second, 15 * time.Second}, "the near one is impatient": {time.Second, 15 * time.Second}, "the far one": {time.Minute, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) { keepAlive(t, intervals[0], intervals[1]) })
	}
}

// TestBeat: nobody is made to say more than ten times a second that he is there.
func TestBeat(t *testing.T) {
	for _, tt := range []struct{ own, other, want time.Duration }{
		{15 * time.Second, 0, 15 * time.Second},
		{15 * time.Second, 2 * time.Second, 2 * time.Second},
		{15 * time.Second, time.Hour, 15 * time.Second},
		{15 * time.Second, 1, 100 * time.Millisecond},
		{15 * time.Second, -1, 15 * time.Second},
	} {
		if got := wire.Beat(tt.own, tt.other); got != tt.want {
			t.Errorf("%v beside %v: %v, want %v", tt.own, tt.other, got, tt.want)
		}
	}
}

func keepAlive(t *testing.T, ofNear, ofFar time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t)
		near.KeepAlive(wire.Beat(ofNear, ofFar), wire.Patience*ofNear)
		far.KeepAlive(wire.Beat(ofFar, ofNear), wire.Patience*ofFar)
		go func() {
			time.Sleep(48 * time.Hour)
			far.Send(wire.Output{Data: []byte("after two days")}) // near finds out
		}()
		done := make(chan struct{})
		go func() { defer close(done); far.Receive(t.Context()) }() // ends with the connection
		if m, err := near.Receive(t.Context(), wire.KindOutput); err != nil || string(m.(wire.Output).Data) != "after two days" {
			t.Errorf("received %v, %v", m, err)
		}
		near.Close()
		<-done
		far.Close()
	})
}

// TestBeatsAreNoMessages: who has received all but signs of life has received all.
func TestBeatsAreNoMessages(t *testing.T) {
	beat, output := frame(wire.Encode(wire.Alive{}).Data), frame(wire.Encode(wire.Output{Data: []byte("x")}).Data)
	for name, test := range map[string]struct {
		behind []byte
		want   bool
	}{
		"nothing":                  {nil, false},
		"two beats":                {append(append([]byte{}, beat...), beat...), false},
		"a beat and a message":     {append(append([]byte{}, beat...), output...), true},
		"a message and a beat":     {append(append([]byte{}, output...), beat...), true},
		"the beginning of a beat":  {beat[:len(beat)-1], true},
		"a frame without anything": {make([]byte, 8), true},
	} {
		t.Run(name, func(t *testing.T) {
			a, far := net.Pipe()
			near := wire.NewConn(a, nil)
			near.KeepAlive(time.Hour, time.Hour)
			sent := make(chan error)
			go func() {
				_, err := far.Write(append(append([]byte{}, output...), test.behind...))
				sent <- err
			}()
			if _, err := near.Receive(t.Context(), wire.KindOutput); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if got := near.Buffered(); got != test.want {
				t.Errorf("buffered: %v", got)
			}
			near.Close()
			far.Close()
		})
	}
}

// TestSilence: a peer that hangs is noticed within the deadline, whatever it was
// doing (some things must go faster); one that sends anything is not.
func TestSilence(t *testing.T) {
	output := frame(wire.Encode(wire.Output{Data: make([]byte, 1000)}).Data)
	content := frame(wire.Encode(wire.Content{Data: wire.Blob{Data: make([]byte, 1000)}}).Data)
	for name, send := range map[string][]byte{
		"nothing":                 nil,
		"a part of a frame":       output[:20],
		"a message":               output,
		"a part of what streams":  content[:100],
		"many messages and a bit": append(append(append([]byte{}, output...), output...), 0),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, far := net.Pipe()
				defer far.Close()
				near := wire.NewConn(a, nil)
				defer near.Close()
				near.KeepAlive(time.Hour, 45*time.Second)
				begun := time.Now()
				last := begun
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for _, octet := range send { // octet by octet, each just in time
						if len(send) < 200 {
							time.Sleep(10 * time.Millisecond)
						}
						far.Write([]byte{octet}) // near finds out
						last = time.Now()
					}
				}()
				var err error
				for err == nil {
					var m wire.Message
					if m, err = near.Receive(t.Context(), wire.KindOutput, wire.KindContent); err == nil {
						_, err = readWhole(m)
					}
				}
				noticed := time.Now()
				near.Close()
				<-sent
				if waited := noticed.Sub(last); waited > 45*time.Second || waited < 20*time.Second {
					t.Errorf("noticed after %v: %v", waited, err)
				}
				if len(send) == 0 && !errors.Is(err, wire.ErrSilent) {
					t.Errorf("got %v, want %v", err, wire.ErrSilent)
				}
			})
		})
	}
}

// TestNoKeepAlive: without it a message to tell that one is alive is refused.
func TestNoKeepAlive(t *testing.T) {
	near, far := pair(t)
	go far.Send(wire.Alive{}) // near finds out
	if _, err := near.Receive(t.Context(), wire.KindOutput); !errors.Is(err, wire.ErrUnexpected) {
		t.Errorf("got %v, want %v", err, wire.ErrUnexpected)
	}
}
