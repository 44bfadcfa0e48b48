package console

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// batchLines bounds the lines of one batch, for when they are short.
	batchLines = 512
	// batchText bounds their octets; the longest line and its newline fit.
	batchText = MaxLine + 1
)

// batch holds some lines read from the files: consecutive ones, verified. It is
// the only thing that reads entries and text together, in either direction.
type batch struct {
	index   [(batchLines + 1) * entrySize]byte // one more in front: where the first begins
	parsed  [batchLines + 1]entry
	text    [batchText]byte
	entries []entry // of parsed
	lines   []Line
	scratch [covered]byte
	end     int64 // offset in the text behind the last line read by forward
}

// batches lets observers that wait for something to happen hold no memory.
var batches = sync.Pool{New: func() any { return new(batch) }}

// forward reads lines from line number from on, as many as fit, none from limit
// on, which is greater than from. It returns at least one line, or an error: when
// line from is damaged it is a *DamageError. The lines before a damaged one come
// without an error; the next call has it.
func (b *batch) forward(f files, from, limit int64) ([]Line, error) {
	previous, err := b.readEntries(f, from, min(limit, from+batchLines))
	if err != nil {
		return nil, err
	}
	start, end := previous, previous
	fit := 0
	for _, e := range b.entries {
		if !e.plausible(end) || e.end-start > batchText {
			break
		}
		end = e.end
		fit++
	}
	if fit == 0 {
		return nil, implausible(f, from)
	}
	b.entries = b.entries[:fit]
	text, err := b.readText(f, start, end)
	if err != nil {
		return nil, err
	}
	b.lines, b.end = b.lines[:0], start
	for i, e := range b.entries {
		line, err := b.verify(f, from+int64(i), e, start, b.end, text)
		if err != nil {
			return b.upTo(err)
		}
		b.lines = append(b.lines, line)
		b.end = e.end
	}
	return b.lines, nil
}

// backward is forward in the other direction: it returns lines in the order
// limit-1, limit-2, ..., as many as fit.
func (b *batch) backward(f files, limit int64) ([]Line, error) {
	from := max(0, limit-batchLines)
	previous, err := b.readEntries(f, from, limit)
	if err != nil {
		return nil, err
	}
	// begin is where line from+i begins.
	begin := func(i int) int64 {
		if i == 0 {
			return previous
		}
		return b.entries[i-1].end
	}
	end := b.entries[len(b.entries)-1].end
	first := len(b.entries)
	for first > 0 && b.entries[first-1].plausible(begin(first-1)) && end-begin(first-1) <= batchText {
		first--
	}
	if first == len(b.entries) {
		return nil, implausible(f, limit-1)
	}
	start := begin(first)
	text, err := b.readText(f, start, end)
	if err != nil {
		return nil, err
	}
	b.lines = b.lines[:0]
	for i := len(b.entries) - 1; i >= first; i-- {
		line, err := b.verify(f, from+int64(i), b.entries[i], start, begin(i), text)
		if err != nil {
			return b.upTo(err)
		}
		b.lines = append(b.lines, line)
	}
	return b.lines, nil
}

// upTo returns the lines in front of a damaged one, or when there are none its
// error: the next call begins at that line, and returns the error then.
func (b *batch) upTo(damage error) ([]Line, error) {
	if len(b.lines) > 0 {
		return b.lines, nil
	}
	return nil, damage
}

// readEntries reads the entries from up to limit into b.entries and returns the
// offset at which the first one's line begins.
func (b *batch) readEntries(f files, from, limit int64) (previous int64, err error) {
	skip := min(from, 1)
	raw := b.index[:(limit-from+skip)*entrySize]
	if n, err := f.index.ReadAt(raw, (from-skip)*entrySize); n < len(raw) {
		if errors.Is(err, io.EOF) {
			return 0, f.indexDamage((from-skip)*entrySize+int64(n), "the file ends here, too early")
		}
		return 0, fmt.Errorf("reading console: %w", err)
	}
	for i := range len(raw) / entrySize {
		b.parsed[i] = parseEntry(raw[i*entrySize:])
	}
	if skip == 1 {
		previous = b.parsed[0].end
	}
	b.entries = b.parsed[skip : limit-from+skip]
	return previous, nil
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

// verify returns the line of entry e, which begins at offset begin; text is what
// was read from offset start on.
func (b *batch) verify(f files, number int64, e entry, start, begin int64, text []byte) (Line, error) {
	if e.end-start > int64(len(text)) {
		return Line{}, f.textDamage(start+int64(len(text)), fmt.Sprintf("the file ends within line %d", number))
	}
	octets := text[begin-start : e.end-start]
	if e.checksum(begin, octets, &b.scratch) != e.sum {
		return Line{}, f.indexDamage(number*entrySize, fmt.Sprintf(
			"the checksum of line %d does not match (octets %d to %d of %s)", number, begin, e.end, TextFile))
	}
	data := octets[:int64(len(octets))-e.newline()]
	return Line{Delta: e.delta, Flags: e.flags, Data: data[:len(data):len(data)]}, nil
}

func implausible(f files, number int64) error {
	return f.indexDamage(number*entrySize, fmt.Sprintf("line %d can not end where it says", number))
}
