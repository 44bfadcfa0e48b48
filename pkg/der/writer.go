package der

import (
	"math/bits"
	"time"
)

// Writer appends DER elements to Data. The zero value is ready to use.
// It can not fail: a value out of range is a programming error and panics.
type Writer struct {
	Data []byte
}

// Element appends an element whose content is what inside writes.
func (w *Writer) Element(tag Tag, inside func()) {
	start := len(w.Data)
	// One octet of length is reserved; longer ones move the content.
	w.Data = AppendHeader(w.Data, tag, 0)
	body := len(w.Data)
	inside()
	length := int64(len(w.Data) - body)
	if grow := int(HeaderSize(tag, length)) - (body - start); grow > 0 {
		w.Data = append(w.Data, make([]byte, grow)...)
		copy(w.Data[body+grow:], w.Data[body:])
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
	w.Data = AppendHeader(w.Data, Integer, int64(intSize(v)))
	for i := intSize(v) - 1; i >= 0; i-- {
		w.Data = append(w.Data, byte(v>>(8*i)))
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
