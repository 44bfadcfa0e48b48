package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"builder/pkg/der"

	"golang.org/x/sync/semaphore"
)

const (
	// frameTime is how long a frame may take to arrive once it has begun, beside
	// one second for every slowest octets of it.
	frameTime = 30 * time.Second
	slowest   = 64 << 10
	// streamTime is how long a streamed frame or a write may stand still.
	streamTime = 60 * time.Second
	// smallFrame is the largest frame that needs no share of the Budget, and
	// whose buffer is kept for the next one.
	smallFrame = 256 << 10
	// writeBuffer is what is gathered of a streamed frame before it is written.
	writeBuffer = 64 << 10
)

// Budget bounds the memory that the frames being received take together, over
// all connections that share it.
type Budget struct{ sem *semaphore.Weighted }

// NewBudget allows that many octets at a time; at least one largest frame fits
// however small it is.
func NewBudget(octets int64) *Budget {
	return &Budget{semaphore.NewWeighted(max(octets, MaxScript+2*megabyte))}
}

// Conn sends and receives messages. One goroutine may receive while others
// send; Send is safe for concurrent use, Receive is not.
type Conn struct {
	net    net.Conn
	in     *bufio.Reader
	budget *Budget
	frame  []byte // buffer of the last frame received
	held   int64  // its share of the budget

	deadline time.Time     // absolute, for the frame being read
	rolling  time.Duration // if not 0, for each read instead

	sending sync.Mutex
	out     *bufio.Writer // of streamed frames, nil until needed
}

// NewConn speaks over c, which it owns. budget may be nil: no bound beside the
// kinds' limits.
func NewConn(c net.Conn, budget *Budget) *Conn {
	conn := &Conn{net: c, budget: budget}
	conn.in = bufio.NewReaderSize(timedReader{conn}, 4<<10)
	return conn
}

// Close closes the connection; a Receive or Send under way fails.
func (c *Conn) Close() error { return c.net.Close() }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() string { return c.net.RemoteAddr().String() }

// timedReader sets the deadline that holds for each read.
type timedReader struct{ c *Conn }

func (r timedReader) Read(p []byte) (int, error) {
	if r.c.rolling > 0 {
		if err := r.c.net.SetReadDeadline(time.Now().Add(r.c.rolling)); err != nil {
			return 0, err
		}
	}
	return r.c.net.Read(p)
}

// ErrUnexpected says that a message came that may not come here.
var ErrUnexpected = errors.New("unexpected message")

// Buffered reports whether more of what the peer sent is at hand, so that the
// next Receive may well not block.
func (c *Conn) Buffered() bool { return c.in.Buffered() > 0 }

// Receive waits, as long as ctx allows, for a frame to begin, and reads it. It
// must be of one of the kinds. The connection is not usable after an error. At a
// clean end between two frames the error is io.EOF.
func (c *Conn) Receive(ctx context.Context, allowed ...Kind) (Message, error) {
	c.release()
	size, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	kind, err := c.peekKind(size, allowed)
	if err != nil {
		return nil, err
	}
	if kind.Limit() == unlimited {
		c.rolling = streamTime
		return receiveStream(kind, c.in, size)
	}
	if err := c.readFrame(ctx, size); err != nil {
		return nil, fmt.Errorf("reading %v: %w", kind, noEOF(err))
	}
	return Decode(c.frame)
}

func receiveStream(kind Kind, in *bufio.Reader, size int64) (Message, error) {
	var m Message
	var err error
	if kind == KindExportReply {
		m, err = receiveExec(in, size)
	} else {
		m, err = receiveFinished(kind, in, size)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	return m, nil
}

// begin waits for a frame's first octet, then reads its length.
func (c *Conn) begin(ctx context.Context) (int64, error) {
	if err := c.waitFrame(ctx); err != nil {
		return 0, err
	}
	if err := c.net.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return 0, err
	}
	header, err := c.in.Peek(8)
	if err != nil {
		return 0, fmt.Errorf("reading a frame's length: %w", noEOF(err))
	}
	size := int64(binary.BigEndian.Uint64(header))
	c.in.Discard(8) //nolint:errcheck // they are in the buffer
	if size <= 0 {
		return 0, fmt.Errorf("frame of length %d", size)
	}
	return size, nil
}

// waitFrame blocks until there is an octet to read, the peer has gone or ctx
// is done.
func (c *Conn) waitFrame(ctx context.Context) error {
	c.rolling = 0
	if c.in.Buffered() > 0 {
		return nil
	}
	deadline, _ := ctx.Deadline()
	if err := c.net.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		c.net.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection wakes the reader as well
	})
	_, err := c.in.Peek(1)
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// peekKind reads the tag of a frame of that size without consuming it, and
// checks it before anything else of the frame is taken.
func (c *Conn) peekKind(size int64, allowed []Kind) (Kind, error) {
	head, err := c.in.Peek(int(min(4, size)))
	if err != nil {
		return 0, fmt.Errorf("reading a frame: %w", noEOF(err))
	}
	tag, err := der.ParseTag(head)
	if err != nil {
		return 0, fmt.Errorf("reading a frame: %w", err)
	}
	if !tag.IsContext() {
		return 0, fmt.Errorf("%w: %v", ErrUnexpected, tag)
	}
	kind := Kind(tag.Number())
	if !slices.Contains(allowed, kind) {
		return 0, fmt.Errorf("%w: %v", ErrUnexpected, kind)
	}
	if size > kind.Limit() {
		return 0, fmt.Errorf("%v of %d octets, limit %d", kind, size, kind.Limit())
	}
	return kind, nil
}

// readFrame reads a frame into memory: into the buffer at hand if it is small,
// else into one that grows with what has really come.
func (c *Conn) readFrame(ctx context.Context, size int64) error {
	limit := time.Now().Add(frameTime + time.Duration(size/slowest)*time.Second)
	if err := c.net.SetReadDeadline(limit); err != nil {
		return err
	}
	if size <= smallFrame {
		c.frame = slices.Grow(c.frame[:0], int(size))[:size]
		_, err := io.ReadFull(c.in, c.frame)
		return err
	}
	if c.budget != nil {
		ctx, cancel := context.WithDeadline(ctx, limit)
		defer cancel()
		if err := c.budget.sem.Acquire(ctx, size); err != nil {
			return fmt.Errorf("waiting for memory: %w", err)
		}
		c.held = size
	}
	c.frame = c.frame[:0]
	for have := int64(0); have < size; have = int64(len(c.frame)) {
		step := min(size-have, max(smallFrame, have))
		c.frame = slices.Grow(c.frame, int(step))[:have+step]
		if _, err := io.ReadFull(c.in, c.frame[have:]); err != nil {
			return err
		}
	}
	return nil
}

// release gives back what the last frame took.
func (c *Conn) release() {
	if c.held > 0 {
		c.budget.sem.Release(c.held)
		c.held = 0
	}
	if cap(c.frame) > smallFrame {
		c.frame = nil
	}
}

// Send writes a message: header and body leave in one write, unless the body
// holds content that is not in memory. An error while such content is read
// leaves the connection unusable: close it.
func (c *Conn) Send(m Message) error {
	w := &der.Writer{Data: make([]byte, 8, 512)}
	encodeTo(w, m)
	binary.BigEndian.PutUint64(w.Data, uint64(w.Size()-8))
	c.sending.Lock()
	defer c.sending.Unlock()
	if w.Size() == int64(len(w.Data)) {
		if _, err := (timedWriter{c}).Write(w.Data); err != nil {
			return fmt.Errorf("sending %v: %w", m.Kind(), err)
		}
		return nil
	}
	if c.out == nil {
		c.out = bufio.NewWriterSize(timedWriter{c}, writeBuffer)
	}
	_, err := w.WriteTo(c.out)
	if err == nil {
		err = c.out.Flush()
	}
	if err != nil {
		return fmt.Errorf("sending %v: %w", m.Kind(), err)
	}
	return nil
}

// timedWriter gives each piece of at most writeBuffer octets streamTime to leave.
type timedWriter struct{ c *Conn }

func (t timedWriter) Write(p []byte) (int, error) {
	written := 0
	for first := true; first || written < len(p); first = false {
		if err := t.c.net.SetWriteDeadline(time.Now().Add(streamTime)); err != nil {
			return written, err
		}
		n, err := t.c.net.Write(p[written:min(len(p), written+megabyte)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// noEOF keeps the end of the input in the middle of a frame from looking like
// its proper end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
