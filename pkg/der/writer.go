package der

import (
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Writer appends DER elements. The zero value is ready to use. Octets that do
// not belong into memory are spliced in: the lengths around them are computed
// from the size that is given, the octets are asked for when [Writer.WriteTo]
// comes to them. Building it can not fail: a value out of range is a programming
// error and panics.
type Writer struct {
	// Data is everything but the splices: the encoding itself if there are none.
	Data    []byte
	splices []splice
	spliced int64 // total size of splices
}

// splice is content from elsewhere, to be inserted at Data[at:].
type splice struct {
	at    int
	size  int64
	write func(io.Writer) error
}

// Size is the number of octets written so far, splices included.
func (w *Writer) Size() int64 { return int64(len(w.Data)) + w.spliced }

// WriteTo writes everything to out. A splice that does not write exactly its
// size is an error: the lengths before it would be wrong.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	counted := &countingWriter{out: out}
	from := 0
	for _, s := range w.splices {
		if _, err := counted.Write(w.Data[from:s.at]); err != nil {
			return counted.n, err
		}
		from = s.at
		before := counted.n
		if err := s.write(counted); err != nil {
			return counted.n, err
		}
		if wrote := counted.n - before; wrote != s.size {
			return counted.n, fmt.Errorf("content changed while it was read: %d octets, expected %d", wrote, s.size)
		}
	}
	_, err := counted.Write(w.Data[from:])
	return counted.n, err
}

type countingWriter struct {
	out io.Writer
	n   int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	c.n += int64(n)
	return n, err
}

// Splice inserts size octets, already encoded, that write will write.
func (w *Writer) Splice(size int64, write func(io.Writer) error) {
	w.splices = append(w.splices, splice{at: len(w.Data), size: size, write: write})
	w.spliced += size
}

// SpliceOctets appends a UTF8String of size octets that write will write.
func (w *Writer) SpliceOctets(size int64, write func(io.Writer) error) {
	w.Data = AppendHeader(w.Data, UTF8String, size)
	w.Splice(size, write)
}

// Element appends an element whose content is what inside writes.
func (w *Writer) Element(tag Tag, inside func()) {
	start := len(w.Data)
	// One octet of length is reserved; longer ones move the content.
	w.Data = AppendHeader(w.Data, tag, 0)
	body := len(w.Data)
	firstSplice, splicedBefore := len(w.splices), w.spliced
	inside()
	length := int64(len(w.Data)-body) + w.spliced - splicedBefore
	if grow := int(HeaderSize(tag, length)) - (body - start); grow > 0 {
		w.Data = append(w.Data, make([]byte, grow)...)
		copy(w.Data[body+grow:], w.Data[body:])
		for i := firstSplice; i < len(w.splices); i++ {
			w.splices[i].at += grow
		}
	}
	AppendHeader(w.Data[:start], tag, length)
}

// Sequence appends a SEQUENCE.
func (w *Writer) Sequence(inside func()) { w.Element(Sequence, inside) }

// Explicit appends [n] EXPLICIT.
func (w *Writer) Explicit(n int, inside func()) { w.Element(Context(n), inside) }

// Null appends a NULL.
func (w *Writer) Null() { w.Data = append(w.Data, byte(Null), 0) }

// Int appends an INTEGER between MinInt and MaxInt.
func (w *Writer) Int(v int64) {
	if v < MinInt || v > MaxInt {
		panic("der: INTEGER out of range")
	}
	n := intSize(v)
	w.Data = append(w.Data, byte(Integer), byte(n))
	for n--; n >= 0; n-- {
		w.Data = append(w.Data, byte(v>>(8*n)))
	}
}

// Bool appends an INTEGER of 1 or 0: the protocol has no BOOLEAN.
func (w *Writer) Bool(v bool) {
	if v {
		w.Int(1)
	} else {
		w.Int(0)
	}
}

// intSize is the content length of an INTEGER.
func intSize(v int64) int {
	if v < 0 {
		v = ^v
	}
	return bits.Len64(uint64(v))/8 + 1
}

// IntSize is the number of octets of a whole INTEGER element.
func IntSize(v int64) int64 { return 2 + int64(intSize(v)) }

// Text appends arbitrary octets as a UTF8String.
func (w *Writer) Text(s string) {
	w.Data = append(AppendHeader(w.Data, UTF8String, int64(len(s))), s...)
}

// Octets appends arbitrary octets as a UTF8String.
func (w *Writer) Octets(b []byte) {
	w.Data = append(AppendHeader(w.Data, UTF8String, int64(len(b))), b...)
}

// Time appends t as a GeneralizedTime in UTC, cut (not rounded) to
// milliseconds: with three digits of fraction, or none when they are all zero
// and t is a whole second. The year must lie between 0 and 9999.
func (w *Writer) Time(t time.Time) {
	t = t.UTC()
	if year := t.Year(); year < 0 || year > 9999 {
		panic("der: year out of range")
	}
	layout := "20060102150405Z"
	if t.Nanosecond() != 0 {
		layout = "20060102150405.000Z"
	}
	w.Data = AppendHeader(w.Data, GeneralizedTime, int64(len(layout)))
	w.Data = t.AppendFormat(w.Data, layout)
}
