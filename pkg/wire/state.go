package wire

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// StateItem is one entry of the reference's state file: exactly one field is set.
type StateItem struct {
	Schedule *ScheduleItem
	Queue    *PlatformQueue
	Dropped  *string
	// Ignored names an old form that the reference reads and drops with a warning.
	Ignored string
}

// maxStateItem is the longest entry: a queue holds whole scripts.
const maxStateItem = 1 << 30

// ReadState reads a reference state file of size octets and gives its entries
// to visit, in their order. An error names the offset at which the reading
// stood; an empty file is one (the reference writes at least two octets).
func ReadState(in io.Reader, size int64, visit func(StateItem) error) error {
	counted := &countingReader{in: in}
	buffered := bufio.NewReader(counted)
	s := der.NewStream(buffered, size)
	s.Enter(der.Sequence)
	for s.More() {
		offset := counted.n - int64(buffered.Buffered())
		item := decodeStateItem(s.Element(maxStateItem))
		if err := s.Err(); err != nil {
			return fmt.Errorf("entry at offset %d: %w", offset, err)
		}
		if err := visit(item); err != nil {
			return err
		}
	}
	s.Leave()
	if s.More() {
		s.Fail(fmt.Errorf("octets behind the last entry"))
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("offset %d: %w", counted.n-int64(buffered.Buffered()), err)
	}
	return nil
}

type countingReader struct {
	in io.Reader
	n  int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

func decodeStateItem(r *der.Reader) StateItem {
	choice, in := r.Choice()
	var item StateItem
	switch choice {
	case 0:
		decodeScriptJob(&in)
		item.Ignored = "queued job without a platform"
	case 1:
		old := in.Enter(der.Sequence)
		item.Schedule = &ScheduleItem{Next: old.UTCTime(), Period: decodePeriod(&old)}
		item.Schedule.Job.ScriptJob = decodeScriptJob(&old)
		old.Done()
	case 2:
		decodeAnyJob(&in)
		item.Ignored = "queued job without a platform"
	case 3:
		schedule := decodeScheduleItem(&in)
		item.Schedule = &schedule
	case 4:
		queue := decodePlatformQueue(&in)
		item.Queue = &queue
	case 5:
		dropped := in.Text()
		item.Dropped = &dropped
	default:
		r.Fail(fmt.Errorf("unknown entry [%d]", choice))
	}
	in.Done()
	return item
}

// EncodeState writes a reference state file.
func EncodeState(items []StateItem) *der.Writer {
	w := &der.Writer{}
	w.Sequence(func() {
		for _, item := range items {
			switch {
			case item.Schedule != nil:
				w.Explicit(3, func() { item.Schedule.encode(w) })
			case item.Queue != nil:
				w.Explicit(4, func() { item.Queue.encode(w) })
			case item.Dropped != nil:
				w.Explicit(5, func() { w.Text(*item.Dropped) })
			}
		}
	})
	return w
}

// Exec is the reference's result file: one build. Console and artifacts, which
// may be larger than memory, are given beside it.
type Exec struct {
	Job      ScriptJob
	UUID     [16]byte
	Started  time.Time
	Finished time.Time
	Result   job.Result
}

// Console is a console in the encoding of result files, newest line first: its
// size, summed up beforehand with ConsoleLineSize, and what writes it.
type Console struct {
	Size  int64
	Write func(io.Writer) error
}

// ConsoleLineSize is the number of octets of one encoded line.
func ConsoleLineSize(delta time.Duration, length int64) int64 {
	return der.ElementSize(der.Sequence, der.IntSize(clampInt(delta))+der.ElementSize(der.UTF8String, length))
}

// AppendConsoleLine appends one encoded line.
func AppendConsoleLine(b []byte, delta time.Duration, data []byte) []byte {
	w := der.Writer{Data: der.AppendHeader(b, der.Sequence,
		der.IntSize(clampInt(delta))+der.ElementSize(der.UTF8String, int64(len(data))))}
	w.Int(clampInt(delta))
	w.Octets(data)
	return w.Data
}

// EncodeExec writes a result file.
func EncodeExec(e Exec, console Console, files []File) *der.Writer {
	w := &der.Writer{}
	w.Explicit(0, func() {
		w.Sequence(func() {
			e.Job.encode(w)
			w.Octets(e.UUID[:])
			w.Data = der.AppendHeader(w.Data, der.Sequence, console.Size)
			if console.Size > 0 {
				w.Splice(console.Size, console.Write)
			}
			w.Sequence(func() {
				encodeTime(w, e.Started)
				encodeTime(w, e.Finished)
			})
			encodeResult(w, e.Result)
			encodeFiles(w, files)
		})
	})
	return w
}

// ExecVisitor is given what does not fit into memory, in the order of the file.
// A nil function skips. What is not read of the data is skipped.
type ExecVisitor struct {
	Line func(delta time.Duration, data io.Reader, size int64) error
	File func(path string, data io.Reader, size int64) error
}

// ReadExec reads a result file of size octets.
func ReadExec(in io.Reader, size int64, visit ExecVisitor) (Exec, error) {
	s := der.NewStream(bufio.NewReaderSize(in, 64<<10), size)
	e := readExec(s, visit)
	if s.More() {
		s.Fail(fmt.Errorf("octets behind the result"))
	}
	return e, s.Err()
}

func readExec(s *der.Stream, visit ExecVisitor) Exec {
	var e Exec
	s.Enter(der.Context(0))
	s.Enter(der.Sequence)
	e.Job = decodeScriptJob(s.Element(1 << 30))
	e.UUID = job.DecodeUUID(s.Element(64 << 10))
	s.Enter(der.Sequence)
	for s.More() {
		s.Enter(der.Sequence)
		delta := time.Duration(s.Element(16).Int())
		data, size := s.Open()
		if visit.Line != nil && s.Err() == nil {
			if err := visit.Line(delta, data, size); err != nil {
				s.Fail(err)
			}
		}
		s.Leave()
	}
	s.Leave()
	times := s.Element(4 << 10)
	in := times.Enter(der.Sequence)
	e.Started, e.Finished = in.Time(), in.Time()
	in.Done()
	e.Result = decodeResult(s.Element(maxResult))
	s.Enter(der.Sequence)
	for s.More() {
		s.Enter(der.Sequence)
		path := s.Element(maxPath).Text()
		data, size := s.Open()
		if visit.File != nil && s.Err() == nil {
			if err := visit.File(path, data, size); err != nil {
				s.Fail(err)
			}
		}
		s.Leave()
	}
	s.Leave()
	s.Leave()
	s.Leave()
	return e
}
