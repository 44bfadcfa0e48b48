package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

// script is a connection whose peer sends what is given and then ends; what is
// written to it is kept.
type script struct {
	in     *bytes.Reader
	writes [][]byte
}

func newScript(in []byte) *script { return &script{in: bytes.NewReader(in)} }

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	s.writes = append(s.writes, slices.Clone(p))
	return len(p), nil
}

func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// allKinds are the kinds that are not retired.
func allKinds() []wire.Kind {
	var kinds []wire.Kind
	for k := wire.Kind(0); k < 1000; k++ {
		if k.Limit() > 0 {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// frame puts a length before an encoding.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(len(body))), body...)
}

// announce is the head of a frame of that kind and size, with a DER header to match.
func announce(kind wire.Kind, size int64) []byte {
	head := binary.BigEndian.AppendUint64(nil, uint64(size))
	tag := der.Context(int(kind))
	length := size
	for length > 0 && der.ElementSize(tag, length) > size {
		length--
	}
	return der.AppendHeader(head, tag, length)
}

// receiveAll receives until the end. Streamed messages are read into memory, as
// JobFinished, Finish or []byte.
func receiveAll(c net.Conn, kinds ...wire.Kind) ([]any, error) {
	conn := wire.NewConn(c, nil)
	var messages []any
	for {
		m, err := conn.Receive(context.Background(), kinds...)
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		whole, err := readWhole(m)
		if err != nil {
			return messages, err
		}
		messages = append(messages, whole)
	}
}

// readWhole reads the rest of a streamed message, and copies others out of the
// connection's buffer.
func readWhole(m wire.Message) (any, error) {
	switch m := m.(type) {
	case *wire.ReceivedExec:
		return io.ReadAll(m.Data)
	case *wire.IncomingContent:
		data, err := io.ReadAll(m)
		return wire.Content{Content: m.Content, Offset: m.Offset, Data: wire.Blob{Data: data}}, err
	case *wire.Incoming:
		files, err := readFiles(m.Files)
		if m.Kind() == wire.KindFinish {
			return wire.Finish{
				UUID: m.UUID, Result: m.Result, Duration: m.Duration, Notes: m.Notes, Files: files,
			}, err
		}
		return wire.JobFinished{UUID: m.UUID, Result: m.Result, Files: files}, err
	}
	return wire.Decode(wire.Encode(m).Data)
}

func readFiles(in *wire.Files) ([]wire.File, error) {
	var files []wire.File
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(f.Data)
		if err != nil {
			return nil, err
		}
		if int64(len(data)) != f.Size {
			return nil, fmt.Errorf("file of %d octets, announced %d", len(data), f.Size)
		}
		files = append(files, wire.File{Path: f.Path, Mode: f.Mode, Data: wire.Blob{Data: data}})
	}
}

func decodeFinished(data []byte) (any, error) {
	all, err := receiveAll(newScript(frame(data)), wire.KindJobFinished)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// decodeState leaves out what the reference ignores, as it does.
func decodeState(data []byte) ([]wire.StateItem, error) {
	var items []wire.StateItem
	err := wire.ReadState(bytes.NewReader(data), int64(len(data)), func(item wire.StateItem) error {
		if item.Ignored == "" {
			items = append(items, item)
		}
		return nil
	})
	return items, err
}

func decodeExec(data []byte) (execFile, error) {
	var e execFile
	var err error
	e.Exec, err = wire.ReadExec(bytes.NewReader(data), int64(len(data)), wire.ExecVisitor{
		Line: func(delta time.Duration, in io.Reader, _ int64) error {
			line, err := io.ReadAll(in)
			e.Console = append(e.Console, job.Line{Delta: delta, Data: line})
			return err
		},
		File: func(path string, in io.Reader, _ int64) error {
			content, err := io.ReadAll(in)
			e.Files = append(e.Files, wire.File{Path: path, Data: wire.Blob{Data: content}})
			return err
		},
	})
	return e, err
}

func encodeExec(e execFile) *der.Writer {
	var console []byte
	var size int64
	for _, line := range e.Console {
		console = wire.AppendConsoleLine(console, line.Delta, line.Data)
		size += wire.ConsoleLineSize(line.Delta, int64(len(line.Data)))
	}
	return wire.EncodeExec(e.Exec, wire.Console{Size: size, Write: func(out io.Writer) error {
		_, err := out.Write(console)
		return err
	}}, e.Files)
}

// encoded is all that w writes.
func encoded(t testing.TB, w *der.Writer) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != w.Size() {
		t.Fatalf("wrote %d octets, announced %d", b.Len(), w.Size())
	}
	return b.Bytes()
}

// diff compares octets as a whole: cmp takes long over each of many.
func diff(want, got any) string { return cmp.Diff(want, got, cmp.Comparer(bytes.Equal)) }
