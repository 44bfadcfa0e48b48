package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/der"
	"builder/pkg/wire"
)

func TestReceiveLimits(t *testing.T) {
	for _, kind := range allKinds() {
		t.Run(kind.String(), func(t *testing.T) {
			_, err := receiveAll(newScript(append(announce(kind, kind.Limit()+1), 0, 0)), kind)
			if !errors.Is(err, wire.ErrTooLong) {
				t.Errorf("one octet too many: got %v, want %v", err, wire.ErrTooLong)
			}
			_, err = receiveAll(newScript(announce(kind, kind.Limit()+1)[:8]), kind)
			if !errors.Is(err, wire.ErrTooLong) {
				t.Errorf("one octet too many, a header only: got %v, want %v", err, wire.ErrTooLong)
			}
			_, err = receiveAll(newScript(announce(kind, kind.Limit())), kind)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("at the limit: got %v, want %v", err, io.ErrUnexpectedEOF)
			}
		})
	}
}

// TestReceiveTag: a frame is judged when its tag is there, whatever else may
// come here.
func TestReceiveTag(t *testing.T) {
	for _, kind := range []wire.Kind{wire.KindInfo, wire.KindCancel} {
		size := kind.Limit() + 1
		head := announce(kind, size)[:8+(len(der.AppendHeader(nil, der.Context(int(kind)), 0))-1)]
		conn := wire.NewConn(newScript(head), nil)
		if _, err := conn.Receive(t.Context(), kind, wire.KindFinish); !errors.Is(err, wire.ErrTooLong) {
			t.Errorf("%v of %d octets: got %v, want %v", kind, size, err, wire.ErrTooLong)
		}
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
