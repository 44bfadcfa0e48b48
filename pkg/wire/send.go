package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"

	"builder/pkg/der"
)

// writeBuffer is what is gathered of a streamed frame before it is written.
const writeBuffer = 64 << 10

// Send writes a message: header and body leave in one write, unless the body
// holds content that is not in memory or is longer than a megabyte. A message
// longer than its kind may be is refused with ErrTooLong and nothing is sent.
// After every other error each Send returns that same error.
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
	if err := c.write(w); err != nil {
		c.broken = fmt.Errorf("sending %v: %w", m.Kind(), err)
	}
	return c.broken
}

func (c *Conn) write(w *der.Writer) error {
	if w.Size() == int64(len(w.Data)) {
		_, err := timedWriter{c.net}.Write(w.Data)
		return err
	}
	if c.out == nil {
		c.out = bufio.NewWriterSize(timedWriter{c.net}, writeBuffer)
	}
	if _, err := w.WriteTo(c.out); err != nil {
		return err
	}
	return c.out.Flush()
}
