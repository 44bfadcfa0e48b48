package job

import (
	"bytes"
	"iter"
	"time"
)

// MaxLine is the longest line, in octets; longer ones are split.
const MaxLine = 64 << 10

// Line is one line of a console or, with the flag Many, several that were printed
// at the same time: a build that prints a lot costs what its octets cost, not
// what its lines do.
type Line struct {
	Delta time.Duration // since the build's start, on the worker's clock
	Data  []byte        // any octets; without the (last) newline
	Flags LineFlags
}

// LineFlags say what a line is, and how it ended.
type LineFlags uint32

// The flags.
const (
	// Unended: no newline followed. The line was longer than MaxLine and goes on
	// in the next one, or it was the last and the script ended without one.
	Unended LineFlags = 1 << iota
	// Partial: more may come. Shown to observers, replaced by what follows it,
	// never stored. Partial lines have no number.
	Partial
	// Many: each newline in Data ends a line. Without this flag newlines are octets
	// like any others.
	Many
)

// Count is the number of lines.
func (l Line) Count() int64 {
	switch {
	case l.Flags&Partial != 0:
		return 0
	case l.Flags&Many != 0:
		return 1 + int64(bytes.Count(l.Data, newline))
	}
	return 1
}

// Each gives the lines one by one, without the flag Many.
func (l Line) Each() iter.Seq[Line] {
	return func(yield func(Line) bool) {
		for {
			head, rest, more := l.Cut()
			if !yield(head) || !more {
				return
			}
			l = rest
		}
	}
}

// Cut takes off the first line. Without more that was all.
func (l Line) Cut() (first, rest Line, more bool) {
	if l.Flags&Many != 0 {
		if i := bytes.IndexByte(l.Data, '\n'); i >= 0 {
			rest = Line{l.Delta, l.Data[i+1:], l.Flags}
			return Line{Delta: l.Delta, Data: l.Data[:i:i]}, rest, true
		}
		l.Flags &^= Many
	}
	return l, Line{}, false
}

// From is what is left without the first n lines, which must be fewer than Count.
func (l Line) From(n int64) Line {
	for ; n > 0; n-- {
		_, l, _ = l.Cut()
	}
	return l
}

// CountLines is the number of lines in all of them.
func CountLines(lines []Line) int64 {
	n := int64(0)
	for _, line := range lines {
		n += line.Count()
	}
	return n
}

var newline = []byte{'\n'}
