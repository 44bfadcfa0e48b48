package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// fileBlob is a file of that content, announced with that size.
func fileBlob(t *testing.T, content []byte, size int64) wire.Blob {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return wire.Blob{Size: size, Open: func() (io.ReadCloser, error) { return os.Open(name) }}
}

func TestSendFiles(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 20_000)
	m := wire.Finish{UUID: ownUUID, Files: []wire.File{
		{Path: "a", Data: fileBlob(t, content, int64(len(content)))},
		{Path: "b", Data: fileBlob(t, nil, 0)},
		{Path: "c", Data: wire.Blob{Data: []byte("in memory")}},
	}}
	peer := newScript(nil)
	conn := wire.NewConn(peer, nil)
	for range 2 { // it can be sent again
		if err := conn.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	got, err := receiveAll(newScript(bytes.Join(peer.writes, nil)), wire.KindFinish)
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Finish{UUID: ownUUID, Files: []wire.File{
		{Path: "a", Data: wire.Blob{Data: content}}, {Path: "b"}, {Path: "c", Data: wire.Blob{Data: []byte("in memory")}},
	}}
	if d := diff([]any{want, want}, got); d != "" {
		t.Errorf("received (-want +got):\n%s", d)
	}
}

// TestSendChangedFile: a file that changed ends the connection's sending; the
// peer never gets a whole message.
func TestSendChangedFile(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 100_000)
	missing := wire.Blob{Size: 5, Open: func() (io.ReadCloser, error) { return nil, os.ErrNotExist }}
	tests := []struct {
		name   string
		blob   wire.Blob
		unsent bool // it is noticed before anything has left
	}{
		{"shrank", fileBlob(t, content, int64(len(content)+1)), false},
		{"grew", fileBlob(t, content, int64(len(content)-1)), false},
		{"grew much", fileBlob(t, content, 10), true},
		{"is gone", missing, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peer := newScript(nil)
			conn := wire.NewConn(peer, nil)
			files := []wire.File{{Path: "a", Data: tt.blob}, {Path: "b", Data: wire.Blob{Data: []byte("more")}}}
			first := conn.Send(wire.JobFinished{Files: files})
			if first == nil {
				t.Fatal("no error")
			}
			if errors.Is(first, wire.ErrUnsent) {
				if len(peer.writes) > 0 {
					t.Errorf("%d writes before %v", len(peer.writes), first)
				}
				if err := conn.Send(wire.Success{}); err != nil {
					t.Errorf("the next Send: %v", err)
				}
				return
			}
			if tt.unsent {
				t.Errorf("got %v, want %v", first, wire.ErrUnsent)
			}
			if err := conn.Send(wire.Success{}); !errors.Is(err, first) {
				t.Errorf("the next Send: got %v, want %v", err, first)
			}
			got, err := receiveAll(newScript(bytes.Join(peer.writes, nil)), allKinds()...)
			if len(peer.writes) > 0 && err == nil || len(got) > 0 {
				t.Errorf("the peer received %v, %v", got, err)
			}
		})
	}
}

// TestSendLimit: what the peer would refuse is not sent.
func TestSendLimit(t *testing.T) {
	peer := newScript(nil)
	conn := wire.NewConn(peer, nil)
	err := conn.Send(wire.Define{Script: make([]byte, wire.MaxScript+2<<20)})
	if !errors.Is(err, wire.ErrTooLong) || len(peer.writes) > 0 {
		t.Errorf("got %v and %d writes, want %v and none", err, len(peer.writes), wire.ErrTooLong)
	}
	if err := conn.Send(wire.Success{}); err != nil || len(peer.writes) != 1 {
		t.Errorf("the next Send: %v, %d writes", err, len(peer.writes))
	}
	if err := conn.Send(wire.Define{Script: make([]byte, wire.MaxScript)}); err != nil {
		t.Errorf("the longest script: %v", err)
	}
}

// TestSendOutOfRange: values that the protocol can not carry become the nearest.
func TestSendOutOfRange(t *testing.T) {
	forever := time.Duration(1<<63 - 1)
	late := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	early := time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct{ send, want wire.Message }{
		{wire.Output{Data: []byte{}, Delta: forever, Stamped: true}, wire.Output{Data: []byte{}, Delta: 1<<62 - 1, Stamped: true}},
		{wire.Output{Data: []byte{}, Delta: -forever, Stamped: true}, wire.Output{Data: []byte{}, Delta: -1 << 62, Stamped: true}},
		{wire.Reschedule{Next: late}, wire.Reschedule{Next: wire.Never.Truncate(time.Millisecond)}},
		{wire.Reschedule{Next: early}, wire.Reschedule{Next: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{wire.List{Limit: 1<<63 - 1}, wire.List{Limit: 1<<62 - 1}},
		{wire.Watch{From: -1 << 63}, wire.Watch{From: -1 << 62}},
		{wire.ClientHello{Version: 1<<63 - 1}, wire.ClientHello{Version: 1<<62 - 1}},
		{wire.Define{Script: []byte{}, Plan: job.Plan{Every: forever}}, wire.Define{Script: []byte{}, Plan: job.Plan{Every: 1<<62 - 1}}},
		{wire.Accepted{Next: wire.Never}, wire.Accepted{Next: wire.Never}},
	}
	for _, tt := range tests {
		got, err := wire.Decode(encoded(t, wire.Encode(tt.send)))
		if err != nil {
			t.Errorf("%+v: %v", tt.send, err)
			continue
		}
		if d := diff(tt.want, got); d != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.send, d)
		}
	}
}

// TestSendTogether: messages of several senders arrive whole.
func TestSendTogether(t *testing.T) {
	near, far := net.Pipe()
	conn, peer := wire.NewConn(near, nil), wire.NewConn(far, nil)
	const senders, each = 4, 50
	big := wire.Blob{Size: 10_000, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(make([]byte, 10_000))), nil
	}}
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			for range each {
				if err := conn.Send(wire.Success{}); err != nil {
					t.Error(err)
				}
				if err := conn.Send(wire.JobFinished{UUID: uuid.UUID{1}, Files: []wire.File{{Data: big}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	counts := map[wire.Kind]int{}
	for range 2 * senders * each {
		m, err := peer.Receive(t.Context(), wire.KindSuccess, wire.KindJobFinished)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readWhole(m); err != nil {
			t.Fatal(err)
		}
		counts[m.Kind()]++
	}
	group.Wait()
	if counts[wire.KindSuccess] != senders*each || counts[wire.KindJobFinished] != senders*each {
		t.Errorf("received %v", counts)
	}
}

// TestSendToNobody: a peer that takes nothing is given up.
func TestSendToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		conn := wire.NewConn(near, nil)
		first := conn.Send(wire.Success{})
		if !errors.Is(first, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want %v", first, os.ErrDeadlineExceeded)
		}
		if err := conn.Send(wire.Success{}); !errors.Is(err, first) {
			t.Errorf("the next Send: got %v, want %v", err, first)
		}
	})
}
