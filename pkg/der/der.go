// Package der reads and writes the subset of DER (X.690) that the protocol and
// the records on disk are made of. It knows no message.
//
// It exists beside encoding/asn1 because the reference protocol needs things
// that package can not do: arbitrary octets under UTF8String, GeneralizedTime
// with a three-digit fraction, CHOICE, records whose unknown trailing fields
// are skipped, and elements of many gigabytes that stream from a socket to a
// file. Three types share one header parser:
//
//	Writer   appends elements to a byte slice
//	Reader   reads elements of a byte slice, without copying
//	Stream   reads elements of an io.Reader that is larger than memory
//
// Nothing here allocates by a length that came from outside: a Reader's
// elements are slices of its input, a Stream's caller states its limit.
//
// What is accepted is what asn1-combinators 0.3.2 accepts, the library of the
// reference: definite lengths of at most eight octets in the shortest form
// (except 0x81 0x7f), minimal INTEGERs of at most 63 bits, no constructed
// strings. What is written is DER.
package der

import (
	"errors"
	"fmt"
	"math"
)

// Tag is an identifier: class and constructed bits (0xe0 of the first octet)
// in the top octet, the tag number below.
type Tag uint32

// The universal tags in use.
const (
	Integer         Tag = 2
	OctetString     Tag = 4
	Null            Tag = 5
	UTF8String      Tag = 12
	UTCTime         Tag = 23
	GeneralizedTime Tag = 24
	Sequence        Tag = constructed | 16
)

const (
	constructed Tag = 0x20 << 24
	contextual  Tag = 0x80 << 24
	classMask   Tag = 0xe0 << 24
	// maxNumber bounds tag numbers: two octets of the high-tag form.
	maxNumber = 1<<14 - 1
)

// Context is the explicit (constructed, context-specific) tag [n].
func Context(n int) Tag { return contextual | constructed | Tag(n) }

// Number is the tag number without its class.
func (t Tag) Number() int { return int(t &^ classMask) }

// IsContext reports whether t is an explicit context tag.
func (t Tag) IsContext() bool { return t&classMask == contextual|constructed }

// String names t in messages.
func (t Tag) String() string {
	switch t {
	case Integer:
		return "INTEGER"
	case OctetString:
		return "OCTET STRING"
	case Null:
		return "NULL"
	case UTF8String:
		return "UTF8String"
	case UTCTime:
		return "UTCTime"
	case GeneralizedTime:
		return "GeneralizedTime"
	case Sequence:
		return "SEQUENCE"
	default:
		if t.IsContext() {
			return fmt.Sprintf("[%d]", t.Number())
		}
		return fmt.Sprintf("tag 0x%02x/%d", uint32(t>>24), t.Number())
	}
}

// MinInt and MaxInt bound INTEGERs: the range of the reference's native int.
const (
	MinInt = -1 << 62
	MaxInt = 1<<62 - 1
)

// ErrTruncated says that an element ends before its header or its content does.
var ErrTruncated = errors.New("truncated")

// header is one element's identifier and length.
type header struct {
	tag    Tag
	length int64
	size   int // octets of the header itself
}

// headerMax is the largest header: one identifier octet, two of a high tag
// number, one of the length's length, eight of the length.
const headerMax = 12

// parseHeader reads the header at the start of b.
func parseHeader(b []byte) (header, error) {
	if len(b) >= 2 && b[0]&0x1f != 0x1f && b[1] < 0x80 { // by far the most
		return header{tag: Tag(b[0]&0xe0)<<24 | Tag(b[0]&0x1f), length: int64(b[1]), size: 2}, nil
	}
	var h header
	if len(b) == 0 {
		return h, ErrTruncated
	}
	h.tag = Tag(b[0]&0xe0) << 24
	number := Tag(b[0] & 0x1f)
	h.size = 1
	if number == 0x1f {
		number = 0
		for {
			if h.size == len(b) {
				return header{}, ErrTruncated
			}
			octet := b[h.size]
			if h.size == 1 && octet == 0x80 || h.size > 2 {
				return h, errors.New("tag number out of range")
			}
			h.size++
			number = number<<7 | Tag(octet&0x7f)
			if octet&0x80 == 0 {
				break
			}
		}
		if number < 0x1f {
			return h, errors.New("tag number not in its short form")
		}
	}
	h.tag |= number
	if h.size == len(b) {
		return h, ErrTruncated
	}
	first := b[h.size]
	h.size++
	if first < 0x80 {
		h.length = int64(first)
		return h, nil
	}
	n := int(first & 0x7f)
	switch {
	case n == 0:
		return h, errors.New("indefinite length")
	case n > 8:
		return h, errors.New("length overflow")
	case len(b)-h.size < n:
		return h, ErrTruncated
	case b[h.size] == 0:
		return h, errors.New("length not in its shortest form")
	}
	var length uint64
	for _, octet := range b[h.size : h.size+n] {
		length = length<<8 | uint64(octet)
	}
	h.size += n
	if length < 0x7f {
		return h, errors.New("length not in its shortest form")
	}
	if length > math.MaxInt64-headerMax {
		return h, errors.New("length overflow")
	}
	h.length = int64(length)
	return h, nil
}

// HeaderSize is the number of octets of the header of an element of that tag
// and content length.
func HeaderSize(tag Tag, length int64) int64 {
	size := int64(2)
	if tag.Number() >= 0x1f {
		size++
		if tag.Number() >= 1<<7 {
			size++
		}
	}
	if length >= 0x80 {
		for ; length > 0; length >>= 8 {
			size++
		}
	}
	return size
}

// ElementSize is the number of octets of a whole element.
func ElementSize(tag Tag, length int64) int64 { return HeaderSize(tag, length) + length }

// AppendHeader appends the header of an element of that tag and content length.
func AppendHeader(b []byte, tag Tag, length int64) []byte {
	first := byte(tag >> 24)
	switch n := tag.Number(); {
	case n < 0x1f:
		b = append(b, first|byte(n))
	case n < 1<<7:
		b = append(b, first|0x1f, byte(n))
	case n <= maxNumber:
		b = append(b, first|0x1f, byte(n>>7)|0x80, byte(n&0x7f))
	default:
		panic("der: tag number out of range")
	}
	if length < 0x80 {
		return append(b, byte(length))
	}
	n := 0
	for l := length; l > 0; l >>= 8 {
		n++
	}
	b = append(b, 0x80|byte(n))
	for i := n - 1; i >= 0; i-- {
		b = append(b, byte(length>>(8*i)))
	}
	return b
}

// ParseTag reads the tag at the start of b.
func ParseTag(b []byte) (Tag, error) {
	h, err := parseHeader(b)
	if errors.Is(err, ErrTruncated) && h.size > 0 {
		err = nil // the tag is complete, the length is not
	}
	return h.tag, err
}
