package der

import (
	"errors"
	"fmt"
	"time"
)

// Reader reads the elements of a byte slice from front to back, without
// copying: what it returns are slices of its input. The first error sticks: all
// later calls return zero values, so a decoder reads field after field and asks
// [Reader.Err] once. Readers of inner elements share it. Not safe for concurrent
// use.
type Reader struct {
	data []byte
	err  *error
}

// NewReader reads the elements in data.
func NewReader(data []byte) *Reader { return &Reader{data: data, err: new(error)} }

// Err is the first error, of this Reader, those it was made from, and those
// made from it.
func (r *Reader) Err() error { return *r.err }

// Fail records err, unless there is one already.
func (r *Reader) Fail(err error) {
	if *r.err == nil {
		*r.err = err
	}
}

// More reports whether an element follows; false after an error.
func (r *Reader) More() bool { return *r.err == nil && len(r.data) > 0 }

// Count is the number of elements that follow, up to the first that is not one.
// A list that is counted first is not copied again and again while it grows.
func (r *Reader) Count() int {
	n := 0
	for rest := r.data; *r.err == nil && len(rest) > 0; n++ {
		h, err := parseHeader(rest)
		if err != nil || h.length > int64(len(rest)-h.size) {
			break
		}
		rest = rest[h.size+int(h.length):]
	}
	return n
}

// Done fails when something follows. A record that may grow trailing fields in
// a later version is read without calling Done.
func (r *Reader) Done() {
	if r.More() {
		r.Fail(fmt.Errorf("%d trailing octets", len(r.data)))
	}
}

// Peek is the next element's tag, 0 at the end or after an error.
func (r *Reader) Peek() Tag {
	if !r.More() {
		return 0
	}
	h, err := parseHeader(r.data)
	if err != nil {
		return 0
	}
	return h.tag
}

// Element reads the next element, which must have that tag, and returns its content.
func (r *Reader) Element(tag Tag) []byte {
	if *r.err != nil {
		return nil
	}
	if len(r.data) == 0 {
		r.Fail(fmt.Errorf("missing %v: %w", tag, ErrTruncated))
		return nil
	}
	h, err := parseHeader(r.data)
	switch {
	case err != nil:
		r.Fail(fmt.Errorf("reading %v: %w", tag, err))
		return nil
	case h.tag != tag:
		r.Fail(fmt.Errorf("want %v, got %v", tag, h.tag))
		return nil
	case h.length > int64(len(r.data)-h.size):
		r.Fail(fmt.Errorf("reading %v: %w", tag, ErrTruncated))
		return nil
	}
	end := h.size + int(h.length)
	content := r.data[h.size:end:end]
	r.data = r.data[end:]
	return content
}

// Enter reads the next element, which must have that tag, and returns a Reader
// of its content.
func (r *Reader) Enter(tag Tag) Reader { return Reader{data: r.Element(tag), err: r.err} }

// Explicit enters the next element, of tag [n], reads its one inner element
// with inside, and checks that nothing else is in it.
func (r *Reader) Explicit(n int, inside func(*Reader)) {
	in := r.Enter(Context(n))
	inside(&in)
	in.Done()
}

// Choice enters the next element, whose tag must be a context tag, and returns
// its number and a Reader of its content: -1 after an error.
func (r *Reader) Choice() (int, Reader) {
	tag := r.Peek()
	if *r.err == nil && !tag.IsContext() {
		r.Element(Context(0)) // gives the precise error
	}
	if *r.err != nil {
		return -1, Reader{err: r.err}
	}
	return tag.Number(), r.Enter(tag)
}

// Null reads a NULL.
func (r *Reader) Null() {
	if len(r.Element(Null)) != 0 {
		r.Fail(errors.New("NULL with content"))
	}
}

// Int reads an INTEGER between MinInt and MaxInt.
func (r *Reader) Int() int64 {
	b := r.Element(Integer)
	if *r.err != nil {
		return 0
	}
	switch {
	case len(b) == 0:
		r.Fail(errors.New("INTEGER without content"))
		return 0
	case len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80):
		r.Fail(errors.New("INTEGER not in its shortest form"))
		return 0
	case len(b) > 8:
		r.Fail(errors.New("INTEGER out of range"))
		return 0
	}
	v := int64(int8(b[0]))
	for _, octet := range b[1:] {
		v = v<<8 | int64(octet)
	}
	if v < MinInt || v > MaxInt {
		r.Fail(errors.New("INTEGER out of range"))
		return 0
	}
	return v
}

// Bool reads an INTEGER that is 1 or 0.
func (r *Reader) Bool() bool {
	v := r.Int()
	if v != 0 && v != 1 {
		r.Fail(fmt.Errorf("want 0 or 1, got %d", v))
	}
	return v == 1
}

// Octets reads a UTF8String, whose content may be any octets.
func (r *Reader) Octets() []byte { return r.Element(UTF8String) }

// Text reads a UTF8String, whose content may be any octets.
func (r *Reader) Text() string { return string(r.Element(UTF8String)) }

// Time reads a GeneralizedTime or a UTCTime; the result is in UTC.
func (r *Reader) Time() time.Time {
	if r.Peek() == UTCTime {
		return r.UTCTime()
	}
	t, err := parseGeneralizedTime(string(r.Element(GeneralizedTime)))
	if err != nil {
		r.Fail(err)
	}
	return t
}

// UTCTime reads a UTCTime; the result is in UTC.
func (r *Reader) UTCTime() time.Time {
	t, err := parseUTCTime(string(r.Element(UTCTime)))
	if err != nil {
		r.Fail(err)
	}
	return t
}
