package wire_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// TestAllocation bounds what hostile frames can make us allocate: a few times
// what comes (buffers grow by doubling), and a constant.
func TestAllocation(t *testing.T) {
	const kilobyte, megabyte = 1 << 10, 1 << 20
	bomb := nested(283 * kilobyte)
	tests := []struct {
		name  string
		input []byte
		most  uint64
	}{
		{"2^62 octets announced", announce(wire.KindSchedule, 1<<62), 32 * kilobyte},
		{"2^62 octets of a streamed kind", announce(wire.KindJobFinished, 1<<62), 32 * kilobyte},
		{"2^59 octets of a streamed kind", announce(wire.KindJobFinished, 1<<59), 32 * kilobyte},
		{"a script announced, nothing sent", announce(wire.KindDefine, wire.MaxScript), 32 * kilobyte},
		{"a gigabyte announced, nothing sent", announce(wire.KindInfoReply, 1<<30), 32 * kilobyte},
		{"a large result text announced", resultHead(megabyte - 100), 32 * kilobyte},
		{"nesting in a schedule", frame(wrap(wire.KindSchedule, bomb)), megabyte},
		{"nesting in a definition", frame(wrap(wire.KindDefine, bomb)), megabyte},
		{"nesting in a result", frame(wrap(wire.KindFinish, bomb)), megabyte},
		{"nesting in a reply", frame(wrap(wire.KindInfoReply, bomb)), megabyte},
		{"empty capabilities", frame(capabilities(3000)), 64 * kilobyte},
		{"empty notes", frame(notes(100_000)), 4 * megabyte},
		{"empty variables", frame(variables(100_000)), 4 * megabyte},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := wire.NewConn(newScript(tt.input), nil)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := conn.Receive(context.Background(), allKinds()...)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("received %T, want an error", m)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > tt.most {
				t.Errorf("allocated %d octets, want at most %d", got, tt.most)
			}
		})
	}
}

// TestStreamedMemory: an artifact of any size takes the memory of some buffers
// at both ends.
func TestStreamedMemory(t *testing.T) {
	const size, most = 64 << 20, 1 << 20
	near, far := timeless()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var sender sync.WaitGroup
	sender.Go(func() {
		err := wire.NewConn(far, nil).Send(wire.Finish{Files: []wire.File{{Path: "a", Data: wire.Blob{
			Size: size, Open: func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, size)), nil },
		}}}})
		if err != nil {
			t.Error(err)
		}
	})
	m, err := wire.NewConn(near, nil).Receive(t.Context(), wire.KindFinish)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.(*wire.Incoming).Files.Next()
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, file.Data)
	if n != size || err != nil {
		t.Errorf("received %d octets, %v, want %d", n, err, size)
	}
	sender.Wait()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > most {
		t.Errorf("allocated %d octets, want at most %d", got, most)
	}
}

// timeless is a pipe without deadlines: those of net.Pipe allocate.
func timeless() (near, far net.Conn) {
	near, far = net.Pipe()
	return patient{near}, patient{far}
}

type patient struct{ net.Conn }

func (patient) SetReadDeadline(time.Time) error  { return nil }
func (patient) SetWriteDeadline(time.Time) error { return nil }

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// nested is about size octets of SEQUENCEs within SEQUENCEs.
func nested(size int) []byte {
	var headers [][]byte
	length := 0
	for length < size {
		header := der.AppendHeader(nil, der.Sequence, int64(length))
		headers = append(headers, header)
		length += len(header)
	}
	slices.Reverse(headers)
	return slices.Concat(headers...)
}

// wrap puts content behind the tag of a kind.
func wrap(kind wire.Kind, content []byte) []byte {
	return append(der.AppendHeader(nil, der.Context(int(kind)), int64(len(content))), content...)
}

// resultHead begins a JobFinished whose result's text is that long, and ends
// before it.
func resultHead(length int) []byte {
	whole := frame(wire.Encode(wire.JobFinished{
		Result: job.Result{Kind: job.Failed, Text: string(make([]byte, length))},
	}).Data)
	return whole[:64]
}

func capabilities(n int) []byte {
	return wire.Encode(wire.Welcome{Capabilities: make([]string, n)}).Data
}

func notes(n int) []byte { return wire.Encode(wire.Finish{Notes: make([]string, n)}).Data }

func variables(n int) []byte {
	return wire.Encode(wire.Define{Job: job.Job{Vars: make([]job.Var, n)}}).Data
}
