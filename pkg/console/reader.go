package console

import (
	"fmt"
	"iter"
	"slices"

	"builder/pkg/disk"
)

// Reader reads the console of a build that has ended. Its methods may be used by
// several goroutines; each iteration has a buffer of its own, of constant size.
type Reader struct {
	files         files
	pieces, lines int64
	text, index   int64 // octets
}

// Open opens the console in dir for reading. When a file is missing the error is
// an fs.ErrNotExist. The caller closes the Reader.
func Open(fsys disk.FS, dir string) (*Reader, error) {
	f, err := openForReading(fsys, dir)
	if err != nil {
		return nil, err
	}
	text, index, err := f.sizes()
	if err != nil {
		f.close() //nolint:errcheck // only read from
		return nil, fmt.Errorf("opening console: %w", err)
	}
	r := &Reader{files: f, pieces: index / entrySize, text: text, index: index}
	last, err := r.last()
	if err != nil {
		f.close() //nolint:errcheck // only read from
		return nil, fmt.Errorf("opening console: %w", err)
	}
	r.lines = last.lines
	return r, nil
}

// last is the last entry, which is zero if there is none.
func (r *Reader) last() (entry, error) {
	b := batches.Get().(*batch)
	defer batches.Put(b)
	if r.pieces == 0 {
		return entry{}, nil
	}
	_, err := b.readEntries(r.files, r.pieces-1, r.pieces)
	return b.entries[0], err
}

// Close closes the files. No iteration may be under way.
func (r *Reader) Close() error { return r.files.close() }

// Count is the number of lines. It is that of the index, which is checked when
// the lines are read.
func (r *Reader) Count() int64 { return r.lines }

// Size is the number of octets in the text.
func (r *Reader) Size() int64 { return r.text }

// Forward gives the lines from line number from on, oldest first, those of
// job.Many as they were appended. A line is valid until the next one. An error is
// the last thing given; when the files are damaged it is a *DamageError, and all
// lines in front of the damage came before.
func (r *Reader) Forward(from int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		b := batches.Get().(*batch)
		defer batches.Put(b)
		next, err := b.find(r.files, from, r.pieces)
		if err != nil {
			yield(Line{}, err)
			return
		}
		for next < r.pieces {
			lines, err := b.from(r.files, next, r.pieces, from)
			if !give(yield, lines, err) {
				return
			}
			next += int64(len(lines))
		}
		if err := r.checkTail(); err != nil {
			yield(Line{}, err)
		}
	}
}

// Backward gives all lines one by one, newest first, under the rules of Forward;
// what lies behind the last line is an error before the first.
func (r *Reader) Backward() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		if err := r.checkTail(); err != nil {
			yield(Line{}, err)
			return
		}
		b := batches.Get().(*batch)
		defer batches.Put(b)
		var each []Line
		for limit := r.pieces; limit > 0; {
			pieces, err := b.backward(r.files, limit)
			limit -= int64(len(pieces))
			each = each[:0]
			for _, piece := range pieces {
				begin := len(each)
				for more := true; more; {
					var line Line
					line, piece, more = piece.Cut()
					each = append(each, line)
				}
				slices.Reverse(each[begin:])
			}
			if !give(yield, each, err) {
				return
			}
		}
	}
}

// give yields lines or the error and says whether to go on.
func give(yield func(Line, error) bool, lines []Line, err error) bool {
	for _, line := range lines {
		if !yield(line, nil) {
			return false
		}
	}
	if err != nil {
		yield(Line{}, err)
	}
	return err == nil
}

// checkTail returns an error when something lies behind the last entry's piece.
func (r *Reader) checkTail() error {
	if r.index%entrySize != 0 {
		return r.files.indexDamage(r.pieces*entrySize, "an entry is not whole")
	}
	last, err := r.last()
	if err != nil {
		return err
	}
	if r.text > last.end {
		return r.files.textDamage(last.end, "it goes on behind the last line of "+IndexFile)
	}
	return nil
}
