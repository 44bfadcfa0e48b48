package console

import (
	"fmt"
	"iter"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
)

// Reader reads the console of a build that has ended. Its methods may be used by
// several goroutines; each iteration has a buffer of its own, of constant size.
type Reader struct {
	files       files
	count, size int64
	index       int64 // octets of the index
}

// Extent is what the index alone says of a line: enough to compute the size of
// an encoding of the console before its text is read.
type Extent struct {
	Delta  time.Duration
	Flags  job.LineFlags
	Length int64 // octets of Data
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
	return &Reader{files: f, count: index / entrySize, size: text, index: index}, nil
}

// Close closes the files. No iteration may be under way.
func (r *Reader) Close() error { return r.files.close() }

// Count is the number of lines. It is that of the index, which is checked when
// the lines are read.
func (r *Reader) Count() int64 { return r.count }

// Size is the number of octets in the text.
func (r *Reader) Size() int64 { return r.size }

// Forward gives the lines from line number from on, oldest first. A line is valid
// until the next one. An error is the last thing given; when the files are
// damaged it is a *DamageError, and all lines in front of the damage came before.
func (r *Reader) Forward(from int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		b := batches.Get().(*batch)
		defer batches.Put(b)
		for next := max(0, from); next < r.count; {
			lines, err := b.forward(r.files, next, r.count)
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

// Backward gives all lines, newest first, under the rules of Forward; what lies
// behind the last line is an error before the first.
func (r *Reader) Backward() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		if err := r.checkTail(); err != nil {
			yield(Line{}, err)
			return
		}
		b := batches.Get().(*batch)
		defer batches.Put(b)
		for limit := r.count; limit > 0; {
			lines, err := b.backward(r.files, limit)
			if !give(yield, lines, err) {
				return
			}
			limit -= int64(len(lines))
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

// Extents gives every line's extent, oldest first, from the index without reading
// the text. The checksums, which cover the text, are not looked at: only when
// Forward or Backward came through as well was it the truth.
func (r *Reader) Extents() iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		b := batches.Get().(*batch)
		defer batches.Put(b)
		for from := int64(0); from < r.count; from += int64(len(b.entries)) {
			end, err := b.readEntries(r.files, from, min(r.count, from+batchLines))
			if err != nil {
				yield(Extent{}, err)
				return
			}
			for i, e := range b.entries {
				if !e.plausible(end) || e.end > r.size {
					yield(Extent{}, implausible(r.files, from+int64(i)))
					return
				}
				if !yield(Extent{e.delta, e.flags, e.end - end - e.newline()}, nil) {
					return
				}
				end = e.end
			}
		}
		if err := r.checkTail(); err != nil {
			yield(Extent{}, err)
		}
	}
}

// checkTail returns an error when something lies behind the last entry's line.
func (r *Reader) checkTail() error {
	if r.index%entrySize != 0 {
		return r.files.indexDamage(r.count*entrySize, "an entry is not whole")
	}
	end := int64(0)
	if r.count > 0 {
		b := batches.Get().(*batch)
		defer batches.Put(b)
		if _, err := b.readEntries(r.files, r.count-1, r.count); err != nil {
			return err
		}
		end = b.entries[0].end
	}
	if r.size > end {
		return r.files.textDamage(end, "it goes on behind the last line of "+IndexFile)
	}
	return nil
}
