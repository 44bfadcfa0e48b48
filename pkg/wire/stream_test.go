package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"builder/pkg/der"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// manyFiles is a result of n files of different sizes.
func manyFiles(n int) wire.Finish {
	m := wire.Finish{UUID: ownUUID, Notes: []string{"a note"}}
	for i := range n {
		m.Files = append(m.Files, wire.File{
			Path: fmt.Sprint("f", i), Mode: 0o644,
			Data: wire.Blob{Data: bytes.Repeat([]byte{byte(i)}, i*i%5000)},
		})
	}
	return m
}

func TestStreamed(t *testing.T) {
	sent := manyFiles(1000)
	near, far := net.Pipe()
	var sender sync.WaitGroup
	sender.Go(func() {
		peer := wire.NewConn(far, nil)
		for _, m := range []wire.Message{sent, wire.Success{}} {
			if err := peer.Send(m); err != nil {
				t.Error(err)
			}
		}
	})
	conn := wire.NewConn(near, nil)
	m, err := conn.Receive(t.Context(), wire.KindFinish)
	if err != nil {
		t.Fatal(err)
	}
	in := m.(*wire.Incoming)
	got, err := readWhole(in)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(any(sent), got); d != "" {
		t.Errorf("received (-want +got):\n%s", d)
	}
	if _, err := in.Files.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("Next behind the end: got %v, want %v", err, io.EOF)
	}
	if _, err := conn.Receive(t.Context(), wire.KindSuccess); err != nil {
		t.Errorf("the message behind it: %v", err)
	}
	sender.Wait()
}

// TestStreamedSkipped: data that is not read is skipped by Next, and ends.
func TestStreamedSkipped(t *testing.T) {
	sent := manyFiles(100)
	conn := wire.NewConn(newScript(frame(wire.Encode(sent).Data)), nil)
	m, err := conn.Receive(t.Context(), wire.KindFinish)
	if err != nil {
		t.Fatal(err)
	}
	var before wire.ReceivedFile
	for i, want := range sent.Files {
		file, err := m.(*wire.Incoming).Files.Next()
		if err != nil || file.Path != want.Path || file.Size != int64(len(want.Data.Data)) {
			t.Fatalf("file %d: got %q of %d octets, %v", i, file.Path, file.Size, err)
		}
		if i > 0 {
			if n, err := before.Data.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Fatalf("file %d after the next: read %d octets, %v", i-1, n, err)
			}
		}
		io.CopyN(io.Discard, file.Data, file.Size/2) // the rest is skipped
		before = file
	}
	if _, err := m.(*wire.Incoming).Files.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
}

// TestStreamedUnread: an artifact is never taken for the next message.
func TestStreamedUnread(t *testing.T) {
	smuggled := frame(wire.Encode(wire.DropPlatform{Platform: "p"}).Data)
	result := frame(wire.Encode(wire.JobFinished{Files: []wire.File{{Path: "a", Data: wire.Blob{Data: smuggled}}}}).Data)
	reply := frame(encoded(t, wire.Encode(exportReply(smuggled))))
	for _, input := range [][]byte{result, reply} {
		conn := wire.NewConn(newScript(input), nil)
		m, err := conn.Receive(t.Context(), allKinds()...)
		if err != nil {
			t.Fatal(err)
		}
		if in, ok := m.(*wire.Incoming); ok {
			if _, err := in.Files.Next(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if m, err := conn.Receive(t.Context(), allKinds()...); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("received %#v, %v, want an error", m, err)
			}
		}
	}
}

// TestStreamedCut: a streamed message that ends early, at any octet, is an
// error, and never looks like a whole one.
func TestStreamedCut(t *testing.T) {
	messages := map[string]wire.Message{
		"job finished": wire.JobFinished{
			Result: job.Result{Kind: job.Failed, Text: "why"},
			Files:  []wire.File{{Path: "a", Data: wire.Blob{Data: []byte("abc")}}, {Path: "b"}},
		},
		"finish":       manyFiles(3),
		"export reply": exportReply([]byte("not really a result file")),
	}
	for name, message := range messages {
		t.Run(name, func(t *testing.T) {
			whole := frame(encoded(t, wire.Encode(message)))
			for n := range whole {
				if n == 0 {
					continue
				}
				got, err := receiveAll(newScript(whole[:n]), allKinds()...)
				if err == nil || len(got) > 0 {
					t.Errorf("%d of %d octets: received %+v, %v", n, len(whole), got, err)
				}
			}
		})
	}
}

// TestStreamedLies: sizes that do not fit together are errors.
func TestStreamedLies(t *testing.T) {
	// A JobFinished with one file, built by hand: what is added to the lengths of
	// the data, the file's record, the list, the record, the message, the frame.
	build := func(data, file, list, record, message, whole int64) []byte {
		content := []byte("some data")
		put := func(tag der.Tag, add int64, inside []byte) []byte {
			return append(der.AppendHeader(nil, tag, int64(len(inside))+add), inside...)
		}
		b := put(der.UTF8String, data, content)
		b = put(der.Sequence, file, append(put(der.UTF8String, 0, []byte("path")), b...))
		b = put(der.Sequence, list, b)
		head := wire.Encode(wire.JobFinished{UUID: ownUUID}).Data
		head = head[4 : len(head)-2] // uuid and result
		b = put(der.Sequence, record, append(head[:len(head):len(head)], b...))
		b = put(der.Context(3), message, b)
		f := frame(b)
		f[7] += byte(whole)
		return append(f, make([]byte, 8)...)
	}
	if _, err := receiveAll(newScript(build(0, 0, 0, 0, 0, 0)), allKinds()...); err == nil ||
		!strings.Contains(err.Error(), "length 0") {
		t.Fatalf("nothing changed: %v, want only the octets behind it to be refused", err)
	}
	for i := range 6 {
		for _, by := range []int64{-2, -1, 1, 2} {
			var add [6]int64
			add[i] = by
			got, err := receiveAll(newScript(build(add[0], add[1], add[2], add[3], add[4], add[5])), allKinds()...)
			if err == nil || len(got) > 0 {
				t.Errorf("length %d changed by %d: received %+v, %v", i, by, got, err)
			}
		}
	}
}
