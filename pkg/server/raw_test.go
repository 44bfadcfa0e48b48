package server_test

import (
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"time"

	"builder/pkg/der"
	"builder/pkg/wire"
)

// frame puts a length before an encoding.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(len(body))), body...)
}

// message is the frame of a kind with that content.
func message(kind wire.Kind, content []byte) []byte {
	return frame(append(der.AppendHeader(nil, der.Context(int(kind)), int64(len(content))), content...))
}

// recorder is a connection that keeps what is sent, and never says anything.
type recorder struct{ data []byte }

func (r *recorder) Write(p []byte) (int, error) {
	r.data = append(r.data, p...)
	return len(p), nil
}

func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recorder) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// heap is the memory in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
