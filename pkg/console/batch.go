package console

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// batchEntries bounds the pieces of one batch, for when they are short.
	batchEntries = 512
	// batchText bounds their octets; the longest piece and its newline fit.
	batchText = MaxLine + 1
)

// batch holds some pieces read from the files: consecutive ones, verified. It is
// the only thing that reads entries and text together, in either direction.
type batch struct {
	index   [(batchEntries + 1) * entrySize]byte // one more in front: where the first begins
	parsed  [batchEntries + 1]entry
	text    [batchText]byte
	entries []entry // of parsed
	pieces  []Line
	scratch [covered]byte
	first   entry // the one in front of the first piece read by forward
	last    entry // that of the last one
}

// batches lets observers that wait for something to happen hold no memory.
var batches = sync.Pool{New: func() any { return new(batch) }}

// forward reads pieces from number from on, as many as fit, none from limit on,
// which is greater than from. It returns at least one, or an error: when piece
// from is damaged it is a *DamageError. The pieces before a damaged one come
// without an error; the next call has it.
func (b *batch) forward(f files, from, limit int64) ([]Line, error) {
	previous, err := b.readEntries(f, from, min(limit, from+batchEntries))
	if err != nil {
		return nil, err
	}
	fit, last := 0, previous
	for _, e := range b.entries {
		if !e.plausible(last) || e.end-previous.end > batchText {
			break
		}
		last = e
		fit++
	}
	if fit == 0 {
		return nil, implausible(f, from)
	}
	b.entries = b.entries[:fit]
	text, err := b.readText(f, previous.end, last.end)
	if err != nil {
		return nil, err
	}
	b.pieces, b.first, b.last = b.pieces[:0], previous, previous
	for i, e := range b.entries {
		piece, err := b.verify(f, from+int64(i), e, previous.end, b.last, text)
		if err != nil {
			return b.upTo(err)
		}
		b.pieces = append(b.pieces, piece)
		b.last = e
	}
	return b.pieces, nil
}

// from is forward for the piece that holds a line, and without the lines in front
// of that one.
func (b *batch) from(f files, piece, limit, line int64) ([]Line, error) {
	lines, err := b.forward(f, piece, limit)
	if skip := line - b.first.lines; err == nil && skip > 0 && skip < lines[0].Count() {
		lines[0] = lines[0].From(skip)
	}
	return lines, err
}

// backward is forward in the other direction: it returns pieces in the order
// limit-1, limit-2, ..., as many as fit.
func (b *batch) backward(f files, limit int64) ([]Line, error) {
	from := max(0, limit-batchEntries)
	previous, err := b.readEntries(f, from, limit)
	if err != nil {
		return nil, err
	}
	// before is the entry in front of piece from+i.
	before := func(i int) entry {
		if i == 0 {
			return previous
		}
		return b.entries[i-1]
	}
	end := b.entries[len(b.entries)-1].end
	first := len(b.entries)
	for first > 0 && b.entries[first-1].plausible(before(first-1)) && end-before(first-1).end <= batchText {
		first--
	}
	if first == len(b.entries) {
		return nil, implausible(f, limit-1)
	}
	start := before(first).end
	text, err := b.readText(f, start, end)
	if err != nil {
		return nil, err
	}
	b.pieces = b.pieces[:0]
	for i := len(b.entries) - 1; i >= first; i-- {
		piece, err := b.verify(f, from+int64(i), b.entries[i], start, before(i), text)
		if err != nil {
			return b.upTo(err)
		}
		b.pieces = append(b.pieces, piece)
	}
	return b.pieces, nil
}

// upTo returns the pieces in front of a damaged one, or when there are none its
// error: the next call begins at that piece, and returns the error then.
func (b *batch) upTo(damage error) ([]Line, error) {
	if len(b.pieces) > 0 {
		return b.pieces, nil
	}
	return nil, damage
}

// readEntries reads the entries from up to limit into b.entries and returns the
// one in front of them, which is zero in front of the first.
func (b *batch) readEntries(f files, from, limit int64) (previous entry, err error) {
	skip := min(from, 1)
	raw := b.index[:(limit-from+skip)*entrySize]
	if n, err := f.index.ReadAt(raw, (from-skip)*entrySize); n < len(raw) {
		if errors.Is(err, io.EOF) {
			return entry{}, f.indexDamage((from-skip)*entrySize+int64(n), "the file ends here, too early")
		}
		return entry{}, fmt.Errorf("reading console: %w", err)
	}
	for i := range len(raw) / entrySize {
		b.parsed[i] = parseEntry(raw[i*entrySize:])
	}
	if skip == 1 {
		previous = b.parsed[0]
	}
	b.entries = b.parsed[skip : limit-from+skip]
	return previous, nil
}

// find returns the number of the piece that holds a line, out of the first count
// pieces; count if none does. It reads the index up to there, and stops at an
// entry that can not be true, which forward then tells.
func (b *batch) find(f files, line, count int64) (piece int64, err error) {
	for piece < count {
		previous, err := b.readEntries(f, piece, min(count, piece+batchEntries))
		if err != nil {
			return 0, err
		}
		for _, e := range b.entries {
			if e.lines > line || !e.plausible(previous) {
				return piece, nil
			}
			previous = e
			piece++
		}
	}
	return piece, nil
}

// readText reads the text between two offsets, or as much of it as there is.
func (b *batch) readText(f files, start, end int64) ([]byte, error) {
	text := b.text[:end-start]
	n, err := f.text.ReadAt(text, start)
	if n < len(text) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading console: %w", err)
	}
	return text[:n], nil
}

// verify returns the piece of entry e, which follows previous; text is what was
// read from offset start on.
func (b *batch) verify(f files, number int64, e entry, start int64, previous entry, text []byte) (Line, error) {
	if e.end-start > int64(len(text)) {
		return Line{}, f.textDamage(start+int64(len(text)), fmt.Sprintf("the file ends within line %d", e.lines-1))
	}
	octets := text[previous.end-start : e.end-start]
	if e.checksum(previous, octets, &b.scratch) != e.sum {
		return Line{}, f.indexDamage(number*entrySize, fmt.Sprintf(
			"the checksum of line %d does not match (octets %d to %d of %s)", previous.lines, previous.end, e.end, TextFile))
	}
	data := octets[:int64(len(octets))-e.newline()]
	return Line{Delta: e.delta, Flags: e.flags, Data: data[:len(data):len(data)]}, nil
}

func implausible(f files, number int64) error {
	return f.indexDamage(number*entrySize, fmt.Sprintf("entry %d can not be true", number))
}
