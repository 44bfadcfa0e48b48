package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"
)

// spool keeps a build, from before its script starts until the server has stored
// it, in one file: a start, a place, the pieces of the console, an end.
//
// One goroutine writes, by way of the console at first; couriers follow. What
// they may see is replaced as a whole.
type spool struct {
	path   string
	spares spares // where its file comes from, and goes to; nil for none

	// The writer's.
	main   *records // nil if there is no file: what is left is in memory
	start  wire.Start
	place  string
	exited *wire.Done
	next   piece         // where the console goes on
	latest time.Duration // when an earlier process printed last
	mark   int64         // where in main the head of the console ends; 0 for not yet
	head   piece         // what follows there
	tail   *tail         // what comes behind the head

	mu      sync.Mutex
	seen    view
	changed chan struct{} // closed at the next change of seen; nil when nobody waits
}

// view is what a courier may send.
type view struct {
	end     int64 // of the file
	lines   int64
	partial *job.Line  // the line that is being printed; never changed
	done    *wire.Done // set when the build has ended and nothing follows
}

// piece is one piece of the console: a line, or many. Its record's body is
//
//	first   8 octets  number of its first line
//	octets  8 octets  of the console before it
//	delta   8 octets
//	flags   4 octets
//	text
type piece struct {
	first, octets int64
	job.Line
}

const pieceHeader = 28

func (p piece) appendHead(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.first))
	b = binary.BigEndian.AppendUint64(b, uint64(p.octets))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Delta))
	return binary.BigEndian.AppendUint32(b, uint32(p.Flags))
}

func parsePiece(body []byte) (piece, error) {
	if len(body) < pieceHeader {
		return piece{}, errDamaged
	}
	return piece{
		first:  int64(binary.BigEndian.Uint64(body)),
		octets: int64(binary.BigEndian.Uint64(body[8:])),
		Line: job.Line{
			Delta: time.Duration(binary.BigEndian.Uint64(body[16:])),
			Flags: job.LineFlags(binary.BigEndian.Uint32(body[24:])),
			Data:  body[pieceHeader:],
		},
	}, nil
}

// size is how many octets of the console the piece is.
func (p piece) size() int64 {
	if p.Flags&job.Unended != 0 {
		return int64(len(p.Data))
	}
	return int64(len(p.Data)) + 1
}

// behind is where the piece behind it begins.
func (p piece) behind() piece { return piece{first: p.first + p.Count(), octets: p.octets + p.size()} }

// begin makes the file.
func (s *spool) begin(start wire.Start, place string) error {
	start.Script = nil
	s.start, s.place = start, place
	main, err := s.spares.take(s.path)
	if err == nil {
		main.add(recordStart, nil, wire.Encode(start).Data)
		main.add(recordPlace, nil, []byte(place))
		if err = main.flush(); err != nil {
			err = errors.Join(err, main.remove())
		}
	}
	if err != nil {
		return fmt.Errorf("writing spool: %w", err)
	}
	s.main = main
	s.publish(nil)
	return nil
}

// exit keeps how the script ended, for the case that the worker dies before it
// has listed what the build left.
func (s *spool) exit(done wire.Done) error { return s.message(recordExited, wire.Encode(done).Data) }

// finish keeps the end of the build, which is at hand encoded, and shows it even if
// it can not be kept.
func (s *spool) finish(done wire.Done, encoded []byte) error {
	err := s.message(recordDone, encoded)
	if s.main != nil {
		s.main.pending = nil // what is delivered later needs no memory
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.seen
	v.done, v.partial = &done, nil
	s.show(v)
	return err
}

func (s *spool) message(kind recordKind, encoded []byte) error {
	if s.main == nil {
		return nil
	}
	s.main.add(kind, nil, encoded)
	if err := s.main.flush(); err != nil {
		return fmt.Errorf("writing spool: %w", err)
	}
	return nil
}

// publish shows what main holds, and a partial line.
func (s *spool) publish(partial *job.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.seen
	v.partial = partial
	if s.mark == 0 {
		v.end, v.lines = s.main.end, s.next.first
	}
	s.show(v)
}

func (s *spool) show(v view) {
	if v == s.seen {
		return
	}
	s.seen = v
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// now is what may be sent, and a channel that is closed when that has changed.
func (s *spool) now() (view, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.seen, s.changed
}

// view is what may be sent.
func (s *spool) view() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// close closes the files.
func (s *spool) close() error {
	var err error
	if s.main != nil {
		err = s.main.file.Close()
	}
	if s.tail != nil {
		err = errors.Join(err, s.tail.close())
	}
	return err
}

// remove removes the files, but for one that becomes a spare. No courier may be
// reading.
func (s *spool) remove() error {
	if s.main == nil {
		return nil
	}
	var err error
	if s.mark != 0 || !s.spares.give(s.main) {
		err = s.main.remove()
	}
	s.main = nil
	return errors.Join(err, s.close(), s.removeTail())
}

// removeTail removes what was not folded.
func (s *spool) removeTail() error {
	if s.mark == 0 {
		return nil
	}
	return removeTail(s.path)
}

// openSpool opens the spool of an earlier process: a record that is not whole or
// not valid is its end. The error is errDamaged if not even its beginning is
// there, fs.ErrNotExist if nothing at all is: then the file is gone.
func openSpool(path string) (*spool, error) {
	main, err := openRecords(path, 0)
	if err != nil {
		return nil, err
	}
	s := &spool{path: path, main: main}
	if err := s.read(); err != nil {
		return nil, errors.Join(err, main.file.Close())
	}
	if s.main.end == 0 { // a spare, or the process died when it had made the file
		return nil, errors.Join(fs.ErrNotExist, s.remove())
	}
	return s, nil
}

func (s *spool) read() error {
	info, err := s.main.file.Stat()
	if err != nil {
		return fmt.Errorf("reading spool: %w", err)
	}
	c := newCursor(s.main)
	defer c.Close()
	c.end = info.Size()
	for s.seen.done == nil {
		kind, body, err := c.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errDamaged) {
			break
		}
		if err == nil {
			err = s.record(kind, body, c.at)
		}
		if err != nil {
			return fmt.Errorf("reading spool %s: %w", s.path, err)
		}
	}
	if s.place == "" && info.Size() > 0 {
		return fmt.Errorf("reading spool %s: %w", s.path, errDamaged)
	}
	if s.seen.done == nil && s.exited == nil && hasTail(s.path) {
		c.at, s.next = s.mark, s.head // what stands behind it is written again
	} else {
		s.mark = 0
	}
	s.seen.end, s.seen.lines = c.at, s.next.first
	return s.main.cut(c.at)
}

// record takes one record of an earlier process.
func (s *spool) record(kind recordKind, body []byte, end int64) (err error) {
	switch kind {
	case recordStart:
		s.start, err = decodeAs[wire.Start](body)
		if err == nil && s.start.Build.UUID.String() != filepath.Base(s.path) {
			err = errDamaged // see spares
		}
	case recordPlace:
		s.place = string(body)
	case recordLines:
		var p piece
		p, err = parsePiece(body)
		s.next, s.latest = p.behind(), p.Delta
	case recordMark:
		s.mark, s.head = end, s.next
	case recordExited, recordDone:
		var done wire.Done
		done, err = decodeAs[wire.Done](body)
		if kind == recordDone {
			s.seen.done = &done
		} else {
			s.exited = &done
		}
	default:
		err = errDamaged
	}
	return err
}
