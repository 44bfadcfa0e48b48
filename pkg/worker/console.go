package worker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
)

// console keeps what a build prints in its spool: the lines that came in one
// write, with one write. Of a console that is longer than most, head and tail are
// kept.
type console struct {
	lines *sandbox.Lines
	wrote atomic.Int64 // when the build printed last, since begun
	begun time.Time

	mu         sync.Mutex
	spool      *spool
	head, tail int64 // octets that they may have
	err        error
}

// spoolError marks that the console could not be kept.
type spoolError struct{ error }

func (e *spoolError) Unwrap() error { return e.error }

func newConsole(s *spool, begun time.Time, most int64) *console {
	c := &console{spool: s, begun: begun}
	c.head, c.tail = shares(most)
	c.lines = sandbox.NewLines(begun, c.add)
	return c
}

// Write implements [io.Writer].
func (c *console) Write(p []byte) (int, error) {
	c.wrote.Store(int64(time.Since(c.begun)))
	n, err := c.lines.Write(p)
	if err == nil {
		err = c.flush(nil)
	}
	return n, err
}

// silence is how long the build has printed nothing.
func (c *console) silence() time.Duration {
	return time.Since(c.begun) - time.Duration(c.wrote.Load())
}

// Close keeps what is left.
func (c *console) Close() error {
	if err := errors.Join(c.lines.Close(), c.flush(nil)); err != nil {
		return err
	}
	return c.spool.fold(c.tail)
}

// add takes one line, or many. A partial one comes from a timer.
func (c *console) add(text []byte, since time.Duration, kind sandbox.LineKind) error {
	line := lineOf(text, since, kind)
	if kind == sandbox.Partial {
		line.Data = append([]byte(nil), text...)
		return c.flush(&line)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.fail(c.spool.print(line, c.head, c.tail))
	}
	return c.err
}

func lineOf(text []byte, since time.Duration, kind sandbox.LineKind) job.Line {
	line := job.Line{Delta: since, Data: text}
	switch kind {
	case sandbox.Partial:
		line.Flags = job.Partial
	case sandbox.Continued, sandbox.Last:
		line.Flags = job.Unended
	case sandbox.Many:
		line.Flags = job.Many
	case sandbox.Whole:
	}
	return line
}

// flush writes what was added and shows it. After an error it returns that error
// for ever.
func (c *console) flush(partial *job.Line) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.fail(c.spool.flush(partial))
	}
	return c.err
}

func (c *console) fail(err error) {
	if err != nil {
		c.err = &spoolError{fmt.Errorf("keeping the console: %w", err)}
	}
}

// append adds a piece to the file, which begins where another has ended.
func (s *spool) append(at piece, line job.Line) (behind piece) {
	at.Line = line
	var head [pieceHeader]byte
	s.main.add(recordLines, at.appendHead(head[:0]), line.Data)
	return at.behind()
}

// print adds a line to the head, or when that is full to the tail.
func (s *spool) print(line job.Line, head, tail int64) error {
	at := s.next
	at.Line = line
	if s.tail == nil && (head <= 0 || at.behind().octets <= head) {
		s.next = s.append(s.next, line)
		return nil
	}
	if s.tail == nil {
		s.main.add(recordMark, nil, nil)
		if err := s.main.flush(); err != nil {
			return err
		}
		s.publish(nil)
		s.mark, s.head = s.main.end, s.next
		var err error
		if s.tail, err = createTail(s.path, tail, s.next); err != nil {
			return err
		}
	}
	s.next = at.behind()
	return s.tail.add(at)
}

// flush writes what was printed and shows it.
func (s *spool) flush(partial *job.Line) error {
	if s.tail != nil {
		return s.tail.flush()
	}
	if len(s.main.pending) > 0 {
		if err := s.main.flush(); err != nil {
			return err
		}
	}
	s.publish(partial)
	return nil
}

// fold appends the tail, if there is one, behind the head. It is called when the
// script has ended, or was found dead.
func (s *spool) fold(size int64) error {
	if s.mark == 0 {
		return nil
	}
	if s.tail == nil {
		var err error
		s.tail, err = openTail(s.path, size)
		if err != nil {
			return err
		}
	}
	if err := s.tail.fold(s); err != nil {
		return err
	}
	err := errors.Join(s.tail.close(), removeTail(s.path))
	s.tail = nil
	return err
}
