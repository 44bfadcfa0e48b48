package worker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"builder/pkg/job"
)

// tail keeps the latest part of a console that is longer than it may be, in two
// files that are filled by turns. When one is full the other begins anew, so
// together they hold at least the last size octets, and at most twice as many.
type tail struct {
	size  int64
	parts [2]*records
	last  int   // which is being filled
	from  int64 // octets of the console before it
}

func tailPaths(path string) [2]string { return [2]string{path + ".tail0", path + ".tail1"} }

// maxTail is the longest tail.
const maxTail = 16 << 20

// shares are how a console of at most so many octets is divided.
func shares(most int64) (head, tail int64) {
	tail = min(most/4, maxTail)
	return most - tail, tail
}

// createTail makes the files for the spool at path, from the piece on.
func createTail(path string, size int64, from piece) (*tail, error) {
	t := &tail{size: size, from: from.octets}
	for i, name := range tailPaths(path) {
		var err error
		if t.parts[i], err = createRecords(name); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

// hasTail reports whether an earlier process has left both files. With one of
// them it had made nothing yet, or was about to remove what it had folded.
func hasTail(path string) bool {
	for _, name := range tailPaths(path) {
		if _, err := os.Lstat(name); err != nil {
			return false
		}
	}
	return true
}

// openTail opens those of an earlier process.
func openTail(path string, size int64) (*tail, error) {
	t := &tail{size: size}
	first := [2]int64{}
	for i, name := range tailPaths(path) {
		part, err := openRecords(name, 0)
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.parts[i] = part
		info, err := part.file.Stat()
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.parts[i].end = info.Size()
		err = t.each(i, func(p piece) error {
			if first[i] == 0 {
				first[i] = p.first + 1
			}
			return nil
		})
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	if first[1] > first[0] {
		t.last = 1
	}
	return t, nil
}

// goOn has the spool of an earlier process printed to again. If it has a tail, that has
// size octets.
func (s *spool) goOn(size int64) error {
	if s.mark == 0 {
		return nil
	}
	t, err := openTail(s.path, size)
	if err != nil {
		return err
	}
	t.from = -1
	for _, part := range []int{t.last, t.last ^ 1} {
		err := t.each(part, func(p piece) error {
			if t.from < 0 {
				t.from = p.octets
			}
			if p.first >= s.next.first {
				s.next, s.latest = p.behind(), p.Delta
			}
			return nil
		})
		if err != nil {
			return errors.Join(err, t.close())
		}
	}
	t.from = max(t.from, s.head.octets)
	s.tail = t
	return nil
}

// add appends a piece.
func (t *tail) add(p piece) error {
	if p.octets-t.from >= t.size {
		if err := t.flush(); err != nil {
			return err
		}
		t.last ^= 1
		t.from = p.octets
		if err := t.parts[t.last].cut(0); err != nil {
			return err
		}
	}
	t.parts[t.last].add(recordLines, p.appendHead(nil), p.Data)
	return nil
}

func (t *tail) flush() error { return t.parts[t.last].flush() }

// each visits the pieces of a part, up to the first that is not valid. Their text
// is valid only then.
func (t *tail) each(part int, visit func(piece) error) error {
	c := newCursor(t.parts[part])
	defer c.Close()
	c.end = t.parts[part].end
	for {
		_, body, err := c.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errDamaged) {
			return nil
		}
		var p piece
		if err == nil {
			p, err = parsePiece(body)
		}
		if err == nil {
			err = visit(p)
		}
		if err != nil {
			return err
		}
	}
}

// fold appends the tail to the spool, behind the line that says what is missing.
// It can be done again from the mark on, and gives the same.
func (t *tail) fold(s *spool) error {
	head, end := s.head, s.head
	for part := range t.parts {
		err := t.each(part, func(p piece) error {
			if p.first >= end.first {
				end = p.behind()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	next := piece{first: head.first, octets: head.octets}
	begun := false
	for _, part := range []int{t.last ^ 1, t.last} {
		err := t.each(part, func(p piece) error {
			if end.octets-p.octets > t.size {
				return nil
			}
			if !begun && p.octets > head.octets {
				text := fmt.Sprintf("... %d octets in %d lines are left out ...", p.octets-head.octets, p.first-head.first)
				next = s.append(next, job.Line{Delta: p.Delta, Data: []byte(text)})
			}
			begun, s.latest = true, p.Delta
			next = s.append(next, p.Line)
			if len(s.main.pending) < flushSize {
				return nil
			}
			return s.main.flush()
		})
		if err != nil {
			return err
		}
	}
	if err := s.main.flush(); err != nil {
		return err
	}
	s.next = next
	s.mark = 0
	s.publish(nil)
	return nil
}

// flushSize is how many octets are gathered before they are written.
const flushSize = 256 << 10

func (t *tail) close() error {
	var failures []error
	for _, part := range t.parts {
		if part != nil {
			failures = append(failures, part.file.Close())
		}
	}
	return errors.Join(failures...)
}

func removeTail(path string) error {
	var failures []error
	for _, name := range tailPaths(path) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
