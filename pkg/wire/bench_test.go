package wire_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"
)

// The benchmarks move one million lines of 100 octets, in pieces of 500 (or one
// by one, as the reference's messages do), from one end of memory to the other.
const (
	benchLines = 1_000_000
	benchChunk = 500
)

// loop is a connection that reads what was written to it.
type loop struct {
	net.Conn
	bytes.Buffer
}

func (l *loop) Read(p []byte) (int, error)       { return l.Buffer.Read(p) }
func (l *loop) Write(p []byte) (int, error)      { return l.Buffer.Write(p) }
func (l *loop) SetReadDeadline(time.Time) error  { return nil }
func (l *loop) SetWriteDeadline(time.Time) error { return nil }

func BenchmarkLines(b *testing.B) {
	lines := make([]job.Line, benchChunk)
	for i := range lines {
		lines[i] = job.Line{Delta: time.Duration(i) * time.Millisecond, Data: bytes.Repeat([]byte("x"), 100)}
	}
	conn := wire.NewConn(&loop{}, wire.NewBudget(0))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		for from := int64(0); from < benchLines; from += benchChunk {
			if err := conn.Send(wire.Lines{UUID: ownUUID, From: from, Lines: lines}); err != nil {
				b.Fatal(err)
			}
			m, err := conn.Receive(ctx, wire.KindLines)
			if err != nil || len(m.(wire.Lines).Lines) != benchChunk {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkOutput(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 100)
	conn := wire.NewConn(&loop{}, wire.NewBudget(0))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		for range benchLines / benchChunk {
			for range benchChunk {
				if err := conn.Send(wire.Output{UUID: ownUUID, Data: line}); err != nil {
					b.Fatal(err)
				}
			}
			for range benchChunk {
				if _, err := conn.Receive(ctx, wire.KindOutput); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}

// BenchmarkBare is the floor: a length before each line, one write and one read
// for each piece.
func BenchmarkBare(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 100)
	l := &loop{}
	in := bufio.NewReader(l)
	out := make([]byte, 0, 64<<10)
	data := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		for range benchLines / benchChunk {
			out = binary.BigEndian.AppendUint64(out[:0], 0)
			for range benchChunk {
				out = binary.BigEndian.AppendUint32(out, uint32(len(line)))
				out = append(out, line...)
			}
			binary.BigEndian.PutUint64(out, uint64(len(out)-8))
			l.Write(out)
			var head [8]byte
			if _, err := io.ReadFull(in, head[:]); err != nil {
				b.Fatal(err)
			}
			body := data[:binary.BigEndian.Uint64(head[:])]
			if _, err := io.ReadFull(in, body); err != nil {
				b.Fatal(err)
			}
			for len(body) > 0 {
				body = body[4+binary.BigEndian.Uint32(body):]
			}
		}
	}
}
