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
	"sync/atomic"

	"builder/pkg/der"
)

// Conn sends and receives messages. One goroutine may receive while others
// send; Send and Close are safe for concurrent use, Receive is not.
type Conn struct {
	net    net.Conn
	timing timing
	in     *bufio.Reader // of net, by way of timing
	budget *Budget
	frame  *[]byte      // the frame received last
	held   atomic.Int64 // its share of the budget
	stream streamed     // the message received last, if it streams
	failed error        // what ended the receiving

	sending sync.Mutex
	out     *bufio.Writer // of streamed frames, nil until needed
	broken  error         // what ended the sending

	sent    atomic.Int64   // when something was sent last, in Unix nanoseconds
	beating sync.WaitGroup // of KeepAlive
	closed  chan struct{}
	closing sync.Once
}

// NewConn speaks over c, which it owns. budget may be nil: no bound beside the
// kinds' limits.
func NewConn(c net.Conn, budget *Budget) *Conn {
	conn := &Conn{net: c, budget: budget, timing: timing{net: c}, closed: make(chan struct{})}
	conn.in = bufio.NewReaderSize(&conn.timing, 4<<10)
	return conn
}

// Close closes the connection; a Receive or Send under way fails.
func (c *Conn) Close() error {
	err := c.net.Close()
	c.closing.Do(func() { close(c.closed) })
	c.beating.Wait()
	c.returnShare()
	return err
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() string { return c.net.RemoteAddr().String() }

// What Receive refuses before it takes any of the message: the peer can be told.
var (
	// ErrUnexpected says that a message came that may not come here.
	ErrUnexpected = errors.New("unexpected message")
	// ErrTooLong says that a message is longer than its kind may be.
	ErrTooLong = errors.New("message too long")
)

// errUnread says that a streamed message was not read to its end, so that what
// follows is not a frame's beginning.
var errUnread = errors.New("the files of the message before were not read to their end")

// Buffered reports whether more of what the peer sent is at hand, so that the
// next Receive may well not block. It is for the goroutine that receives.
func (c *Conn) Buffered() bool {
	c.skipBeats()
	return c.in.Buffered() > 0
}

// Receive waits for a message, which must be of one of the kinds. At a clean end
// between two messages the error is io.EOF.
//
// When ctx is done the error is its cause. If no message had begun by then, a
// later Receive goes on as if nothing had been; after every other error each
// Receive returns that same error. What a streamed message gives later is not
// subject to ctx: Close ends it.
func (c *Conn) Receive(ctx context.Context, allowed ...Kind) (Message, error) {
	c.release()
	if c.failed == nil && c.stream != nil && !c.stream.finished() {
		c.failed = errUnread
	}
	c.stream = nil
	switch {
	case c.failed != nil:
		return nil, c.failed
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	if !c.whole() {
		defer c.timing.interruptBy(ctx)()
	}
	for {
		c.timing.patient()
		if _, err := c.in.Peek(1); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			c.failed = c.silence(err)
			return nil, c.failed
		}
		m, err := c.receive(ctx, allowed)
		if err != nil {
			c.release()
			if ctx.Err() != nil {
				err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
			c.failed = err
			return nil, err
		}
		if _, beat := m.(Alive); !beat || c.timing.patience == 0 {
			return m, nil
		}
		c.release()
	}
}

// whole reports whether the next frame is in the buffer, so that nothing blocks.
func (c *Conn) whole() bool {
	if c.in.Buffered() < frameHeader {
		return false
	}
	header, err := c.in.Peek(frameHeader)
	return err == nil && binary.BigEndian.Uint64(header) <= uint64(c.in.Buffered()-frameHeader)
}

// receive reads a frame that has begun.
func (c *Conn) receive(ctx context.Context, allowed []Kind) (Message, error) {
	c.timing.within(frameTime)
	header, err := c.in.Peek(frameHeader)
	if err != nil {
		return nil, fmt.Errorf("reading a frame's length: %w", noEOF(err))
	}
	size := int64(binary.BigEndian.Uint64(header))
	c.in.Discard(frameHeader) //nolint:errcheck // they are in the buffer
	if size <= 0 {
		return nil, fmt.Errorf("frame of length %d", size)
	}
	if most := longest(allowed); len(allowed) > 0 && size > most {
		// Said now: nothing of the frame may ever follow.
		return nil, fmt.Errorf("%w: %d octets, and no message that may come here has more than %d", ErrTooLong, size, most)
	}
	kind, err := c.peekKind(size, allowed)
	if err != nil {
		return nil, err
	}
	if kind.Limit() == unlimited {
		c.timing.rolling()
		m, err := receiveStream(kind, c.in, size)
		if err != nil {
			return nil, fmt.Errorf("reading %v: %w", kind, err)
		}
		c.stream = m
		return m, nil
	}
	if err := c.readFrame(ctx, size); err != nil {
		return nil, fmt.Errorf("reading %v: %w", kind, noEOF(err))
	}
	return Decode(*c.frame)
}

func receiveStream(kind Kind, in *bufio.Reader, size int64) (streamed, error) {
	switch kind {
	case KindExportReply:
		return receiveExec(in, size)
	case KindContent:
		return receiveContent(in, size)
	default:
		return receiveFinished(kind, in, size)
	}
}

// peekKind reads the tag of a frame of that size without consuming it, and
// checks it before anything else of the frame is taken.
func (c *Conn) peekKind(size int64, allowed []Kind) (Kind, error) {
	tag, err := c.peekTag(size)
	if err != nil {
		return 0, fmt.Errorf("reading a frame: %w", err)
	}
	if !tag.IsContext() {
		return 0, fmt.Errorf("%w: %v", ErrUnexpected, tag)
	}
	kind := Kind(tag.Number())
	beat := kind == KindAlive && c.timing.patience > 0
	if !beat && !slices.Contains(allowed, kind) {
		return 0, fmt.Errorf("%w: %v", ErrUnexpected, kind)
	}
	if size > kind.Limit() {
		return 0, fmt.Errorf("%w: %v of %d octets, limit %d", ErrTooLong, kind, size, kind.Limit())
	}
	return kind, nil
}

// peekTag waits for no octet more than the tag has.
func (c *Conn) peekTag(size int64) (der.Tag, error) {
	const most = 4
	for n := int64(1); ; n++ {
		head, err := c.in.Peek(int(n))
		if err != nil {
			return 0, noEOF(err)
		}
		tag, err := der.ParseTag(head)
		if !errors.Is(err, der.ErrTruncated) || n == min(most, size) {
			return tag, err
		}
	}
}

// longest is the longest frame that a message of one of the kinds may have.
func longest(kinds []Kind) int64 {
	most := int64(0)
	for _, kind := range kinds {
		most = max(most, kind.Limit())
	}
	return most
}

// noEOF keeps the end of the input in the middle of a frame from looking like
// its proper end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
