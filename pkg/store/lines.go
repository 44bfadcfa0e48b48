package store

import (
	"fmt"
	"io"
	"iter"
	"time"

	"builder/pkg/console"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// maxBundle is the most lines given at once.
const maxBundle = 1024

// Lines replays the console of a build that has ended, oldest line first, from
// line number from on, counted from 0. It gives several consecutive lines at
// once, at least one, valid until the next ones. An error is the last thing
// given. Memory is constant for our builds; for a result of the reference, which
// has the newest line first, it is 24 octets per line.
func (s *Store) Lines(id uuid.UUID, from int64) iter.Seq2[[]job.Line, error] {
	return func(yield func([]job.Line, error) bool) {
		p, err := s.index.find(id)
		b := bundle{yield: yield}
		if err == nil && p.origin == ours {
			err = s.replay(p, from, &b)
		} else if err == nil {
			err = s.replayResult(p, from, &b)
		}
		if b.flush() && err != nil {
			yield(nil, err)
		}
	}
}

// bundle gathers lines, so that whoever sends them on sends many at once.
type bundle struct {
	yield func([]job.Line, error) bool
	ended bool // yield wants no more
	lines []job.Line
	text  []byte
}

// add adds a line and says whether to go on.
func (b *bundle) add(line job.Line) bool {
	if b.text == nil {
		b.text = make([]byte, 0, 2*job.MaxLine)
	}
	// The text must not move while lines point into it.
	if len(b.text)+len(line.Data) > cap(b.text) || len(b.lines) == maxBundle {
		b.flush()
	}
	begin := len(b.text)
	b.text = append(b.text, line.Data...)
	line.Data = b.text[begin:len(b.text):len(b.text)]
	b.lines = append(b.lines, line)
	return !b.ended
}

// flush gives what is there and says whether to go on.
func (b *bundle) flush() bool {
	if !b.ended && len(b.lines) > 0 {
		b.ended = !b.yield(b.lines, nil)
	}
	b.lines, b.text = b.lines[:0], b.text[:0]
	return !b.ended
}

// openConsole opens a recorded console, which must be as long as the record says.
func (s *Store) openConsole(dir string, rec record) (*console.Reader, error) {
	r, err := console.Open(s.fsys, dir)
	if err != nil {
		return nil, err
	}
	if err := rec.checkConsole(r); err != nil {
		r.Close() //nolint:errcheck // only read from
		return nil, fmt.Errorf("opening console in %s: %w", dir, err)
	}
	return r, nil
}

// checkConsole tells whether a console is as long as the record says.
func (r record) checkConsole(c *console.Reader) error {
	if c.Count() != r.lines || c.Size() != r.text {
		return fmt.Errorf("%w: %d lines in %d octets, the record says %d in %d", ErrDamaged, c.Count(), c.Size(), r.lines, r.text)
	}
	return nil
}

// replay gives the lines of one of our builds.
func (s *Store) replay(p place, from int64, to *bundle) error {
	dir := s.dir(p)
	rec, err := s.readRecord(dir)
	if err != nil {
		return err
	}
	r, err := s.openConsole(dir, rec)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read from
	for line, err := range r.Forward(from) {
		if err != nil {
			return err
		}
		if !to.add(line) {
			return nil
		}
	}
	return nil
}

// extent is where a line lies in a result.
type extent struct {
	offset, size int64
	delta        time.Duration
}

// replayResult is replay for a result of the reference.
func (s *Store) replayResult(p place, from int64, to *bundle) error {
	r, err := s.openResult(p)
	if err != nil {
		return err
	}
	defer r.file.Close()
	var lines []extent // newest first
	_, err = r.visit(p, wire.ExecVisitor{Line: func(delta time.Duration, _ io.Reader, size int64) error {
		lines = append(lines, extent{r.offset(), size, delta})
		return nil
	}})
	if err != nil {
		return err
	}
	w := window{in: r.file}
	number := int64(0)
	for i := len(lines) - 1; i >= 0; i-- {
		// The reference has no limit for a line.
		for line := lines[i]; ; {
			size := min(line.size, job.MaxLine)
			var flags job.LineFlags
			if size < line.size {
				flags = job.Unended
			}
			if number >= from {
				data, err := w.slice(line.offset, int(size))
				if err != nil {
					return fmt.Errorf("reading result: %w", err)
				}
				if !to.add(job.Line{Delta: line.delta, Data: data, Flags: flags}) {
					return nil
				}
			}
			number++
			line.offset += size
			line.size -= size
			if line.size == 0 {
				break
			}
		}
	}
	return nil
}

// window is a piece of a file that is read from its end to its beginning.
type window struct {
	in     io.ReaderAt
	offset int64
	data   []byte
	buffer [2 * job.MaxLine]byte // no line's piece is longer than half of it
}

// slice returns size octets, no more than the buffer has, valid until the next call.
func (w *window) slice(offset int64, size int) ([]byte, error) {
	if offset < w.offset || offset+int64(size) > w.offset+int64(len(w.data)) {
		w.offset = max(0, offset+int64(size-len(w.buffer)))
		w.data = w.buffer[:offset+int64(size)-w.offset]
		if n, err := w.in.ReadAt(w.data, w.offset); n < len(w.data) {
			w.data = nil
			return nil, err
		}
	}
	at := offset - w.offset
	return w.data[at : at+int64(size) : at+int64(size)], nil
}
