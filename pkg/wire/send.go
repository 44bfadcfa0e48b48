package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"builder/pkg/der"
)

// writeBuffer is what is gathered of a streamed frame before it is written.
const writeBuffer = 64 << 10

// Send writes a message: header and body leave in one write, unless the body
// holds content that is not in memory or is longer than a megabyte. A message
// longer than its kind may be is refused with ErrTooLong, one whose content could
// not be read with ErrUnsent if none of it has left: another may be sent in its
// place. After every other error each Send returns that same error.
func (c *Conn) Send(m Message) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.broken != nil {
		return c.broken
	}
	buffer := buffers.Get().(*[]byte)
	w := &der.Writer{Data: append((*buffer)[:0], make([]byte, frameHeader)...)}
	encodeTo(w, m)
	*buffer = w.Data
	defer putBuffer(buffer)
	size := w.Size() - frameHeader
	if size > m.Kind().Limit() {
		return fmt.Errorf("%w: %v of %d octets, limit %d", ErrTooLong, m.Kind(), size, m.Kind().Limit())
	}
	binary.BigEndian.PutUint64(w.Data, uint64(size))
	c.sent.Store(time.Now().UnixNano())
	if err := c.write(w); err != nil {
		err = fmt.Errorf("sending %v: %w", m.Kind(), err)
		if !errors.Is(err, ErrUnsent) {
			c.broken = err
		}
		return err
	}
	return nil
}

func (c *Conn) write(w *der.Writer) error {
	if w.Size() == int64(len(w.Data)) {
		_, err := timedWriter{c.net}.Write(w.Data)
		return err
	}
	if c.out == nil {
		c.out = bufio.NewWriterSize(timedWriter{c.net}, writeBuffer)
	}
	if n, err := w.WriteTo(c.out); err != nil {
		if n > int64(c.out.Buffered()) {
			return err
		}
		c.out.Reset(timedWriter{c.net})
		return unsent{err}
	}
	return c.out.Flush()
}

// ErrUnsent says that nothing of a message was sent.
var ErrUnsent = errors.New("not sent")

// unsent is an ErrUnsent that reads as its cause.
type unsent struct{ error }

func (e unsent) Unwrap() []error { return []error{ErrUnsent, e.error} }
