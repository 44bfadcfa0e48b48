package der

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Stream reads elements of an io.Reader from front to back where a whole value
// does not fit into memory. The caller descends with Enter and Leave, takes
// small elements with Element, and copies large ones from Open. Its memory is
// its buffer and the small elements asked for. Errors stick as in [Reader].
// Not safe for concurrent use.
type Stream struct {
	in   *bufio.Reader
	left []int64 // octets not yet read of each open element, innermost last
	body *body   // open content, nil if none
	err  error
}

// NewStream reads the elements in the next size octets of in, never more.
func NewStream(in *bufio.Reader, size int64) *Stream {
	return &Stream{in: in, left: []int64{size}}
}

// Err is the first error.
func (s *Stream) Err() error { return s.err }

// Fail records err, unless there is one already.
func (s *Stream) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// innermost is the number of octets left in the innermost open element.
func (s *Stream) innermost() *int64 { return &s.left[len(s.left)-1] }

// More reports whether an element follows in the innermost open element.
func (s *Stream) More() bool {
	s.closeBody()
	return s.err == nil && *s.innermost() > 0
}

// peek parses the next header without consuming it.
func (s *Stream) peek(want Tag) (header, bool) {
	s.closeBody()
	if s.err != nil {
		return header{}, false
	}
	left := *s.innermost()
	if left == 0 {
		s.err = fmt.Errorf("missing %v: %w", want, ErrTruncated)
		return header{}, false
	}
	b, err := s.in.Peek(int(min(headerMax, left)))
	if err != nil && (len(b) == 0 || !errors.Is(err, io.EOF)) {
		s.err = noEOF(err)
		return header{}, false
	}
	h, err := parseHeader(b)
	if err != nil {
		s.err = fmt.Errorf("reading %v: %w", want, err)
		return header{}, false
	}
	return h, true
}

// Peek is the next element's tag, 0 at the end or after an error.
func (s *Stream) Peek() Tag {
	if !s.More() {
		return 0
	}
	h, _ := s.peek(0)
	return h.tag
}

// begin consumes the header of the next element, which must have that tag and
// lie within the one around it, and takes it off that one.
func (s *Stream) begin(tag Tag) (length int64, ok bool) {
	h, ok := s.peek(tag)
	if !ok {
		return 0, false
	}
	left := s.innermost()
	switch {
	case h.tag != tag:
		s.err = fmt.Errorf("want %v, got %v", tag, h.tag)
		return 0, false
	case h.length > *left-int64(h.size):
		s.err = fmt.Errorf("reading %v: %w", tag, ErrTruncated)
		return 0, false
	}
	*left -= int64(h.size) + h.length
	if _, err := s.in.Discard(h.size); err != nil {
		s.err = noEOF(err)
		return 0, false
	}
	return h.length, true
}

// Enter descends into the next element, which must have that tag, and returns
// the number of octets in it.
func (s *Stream) Enter(tag Tag) int64 {
	length, ok := s.begin(tag)
	if ok {
		s.left = append(s.left, length)
	}
	return length
}

// Leave ascends from the innermost element entered; it fails when something in
// it was not read.
func (s *Stream) Leave() {
	s.closeBody()
	if s.err != nil {
		return
	}
	if n := *s.innermost(); n > 0 {
		s.err = fmt.Errorf("%d trailing octets", n)
		return
	}
	s.left = s.left[:len(s.left)-1]
}

// Skip passes over what is left in the innermost element entered.
func (s *Stream) Skip() {
	s.closeBody()
	s.discard(s.innermost())
}

// discard consumes what *left counts.
func (s *Stream) discard(left *int64) {
	for s.err == nil && *left > 0 {
		n, err := s.in.Discard(int(min(*left, math.MaxInt32)))
		*left -= int64(n)
		if err != nil {
			s.err = noEOF(err)
		}
	}
}

// Element reads the next element, header and content, of at most limit octets,
// into memory. After an error the Reader is an empty one that has failed.
func (s *Stream) Element(limit int64) *Reader {
	r := NewReader(nil)
	h, ok := s.peek(0)
	size := h.length + int64(h.size)
	switch {
	case !ok:
	case size > *s.innermost():
		s.err = fmt.Errorf("reading %v: %w", h.tag, ErrTruncated)
	case size > limit:
		s.err = fmt.Errorf("%v of %d octets, limit %d", h.tag, size, limit)
	default:
		r.data = s.read(size)
		*s.innermost() -= size
	}
	r.err = &s.err // what fails below fails the stream
	return r
}

// read takes size octets. The buffer grows with what has really come.
func (s *Stream) read(size int64) []byte {
	const step = 4 << 10
	var data []byte
	for have := int64(0); have < size; have = int64(len(data)) {
		next := min(size-have, max(step, have))
		data = slices.Grow(data, int(next))[:have+next]
		if _, err := io.ReadFull(s.in, data[have:]); err != nil {
			s.err = noEOF(err)
			return nil
		}
	}
	return data
}

// Open starts on the next element's content, which must be octets under
// UTF8String, and returns its size. The reader yields exactly that, or
// [io.ErrUnexpectedEOF]; it ends with the next call of the Stream, which skips
// what was not read.
func (s *Stream) Open() (io.Reader, int64) {
	length, ok := s.begin(UTF8String)
	if !ok {
		return &body{stream: s}, 0
	}
	s.body = &body{stream: s, left: length}
	return s.body, length
}

// closeBody skips the rest of the open content.
func (s *Stream) closeBody() {
	if s.body == nil {
		return
	}
	s.discard(&s.body.left)
	s.body.left = 0
	s.body = nil
}

// body is the content of an open element.
type body struct {
	stream *Stream
	left   int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.stream.err != nil {
		return 0, b.stream.err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.stream.in.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil {
		b.stream.Fail(noEOF(err))
		return n, b.stream.err
	}
	return n, nil
}

// noEOF keeps the end of the input in the middle of a value from looking like
// its proper end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
