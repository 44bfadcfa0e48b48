package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
)

// flushSize is how many octets Append gathers before it writes them.
const flushSize = 256 << 10

// keepSize is how many octets of both files, from their beginning, a Writer keeps.
const keepSize = 16 << 10

var errClosed = fmt.Errorf("writing console: %w", os.ErrClosed)

// Writer appends to a console. Append, SetPartial, Flush, Sync, Small and Close are for
// one goroutine at a time; the others are safe to be called from any.
//
// After an error of a write or a sync it is not known what the files hold behind
// the last good Flush: the Writer keeps returning that error, and what remains to
// be done is Close.
type Writer struct {
	fsys  disk.FS
	files files

	// What Append gathered and Flush has not written yet.
	text, index []byte
	pieces      int64 // with that
	last        entry
	partial     *Line
	scratch     [covered]byte
	err         error

	// What Flush has written since Create, as long as it is no more than keepSize.
	keptText, keptIndex []byte
	keeps               bool

	mu      sync.Mutex
	visible view
	changed chan struct{} // closed at the next change of visible; nil when nobody waits
}

// view is what observers may see: a prefix of the files, and the line that is
// being printed. It is replaced as a whole, so replay and live are joined there.
type view struct {
	pieces      int64
	lines, size int64
	partial     *Line // never changed once it is here
	closed      bool
}

// Create makes the two files, which must not exist, in the existing directory dir.
// Their names are durable when the caller has synced dir, once.
func Create(fsys disk.FS, dir string) (*Writer, error) {
	f, err := openFiles(fsys, dir, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("creating console: %w", err)
	}
	w := newWriter(fsys, f, 0, entry{})
	w.keeps = true
	return w, nil
}

// Reopen goes on with a console whose writer was killed: it reads it, cuts both
// files to the valid prefix, and appends there. A missing file is an empty one
// (the names may not have been durable). What it found is durable when it returns,
// the names when the caller has synced dir. There must be no other Writer and no
// Reader.
func Reopen(fsys disk.FS, dir string) (*Writer, error) {
	f, err := openFiles(fsys, dir, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("reopening console: %w", err)
	}
	pieces, last, err := validPrefix(f)
	if err == nil {
		err = f.cut(pieces, last.end)
	}
	if err == nil {
		// Were the cut lost in a power cut later, while lines appended behind it
		// were not, an old line behind those could come to life again.
		err = f.sync()
	}
	if err != nil {
		f.close() //nolint:errcheck // nothing was written; the first error is the one to report
		return nil, fmt.Errorf("reopening console: %w", err)
	}
	return newWriter(fsys, f, pieces, last), nil
}

func newWriter(fsys disk.FS, f files, pieces int64, last entry) *Writer {
	w := &Writer{fsys: fsys, files: f, pieces: pieces, last: last}
	w.visible = w.view()
	return w
}

// view is what observers see after a Flush.
func (w *Writer) view() view {
	return view{pieces: w.pieces, lines: w.last.lines, size: w.last.end, partial: w.partial}
}

// validPrefix reads the files up to the first damage.
func validPrefix(f files) (pieces int64, last entry, err error) {
	_, size, err := f.sizes()
	if err != nil {
		return 0, entry{}, err
	}
	b := batches.Get().(*batch)
	defer batches.Put(b)
	for count := size / entrySize; pieces < count; {
		read, err := b.forward(f, pieces, count)
		var damage *DamageError
		if errors.As(err, &damage) {
			break
		} else if err != nil {
			return 0, entry{}, err
		}
		pieces += int64(len(read))
		last = b.last
	}
	return pieces, last, nil
}

// cut makes the files end behind that many pieces, and the next writes go there.
func (f files) cut(pieces, end int64) error {
	for _, part := range []struct {
		file disk.File
		size int64
	}{{f.index, pieces * entrySize}, {f.text, end}} {
		if err := part.file.Truncate(part.size); err != nil {
			return err
		}
		if _, err := part.file.Seek(part.size, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// Append adds whole lines; their Data may be reused when it returns. They are
// seen by observers after Flush, or earlier. A line with more than MaxLine octets
// becomes several, with job.Unended on all but the last, and so do many lines, at
// a newline where there is one; job.Partial is taken off. Append takes the place
// of what SetPartial showed.
func (w *Writer) Append(lines ...Line) error {
	if w.err != nil {
		return w.err
	}
	for _, line := range lines {
		for len(line.Data) > MaxLine {
			var head Line
			head, line = cutLong(line)
			if err := w.append(head); err != nil {
				return err
			}
		}
		if err := w.append(line); err != nil {
			return err
		}
	}
	return nil
}

// cutLong cuts what is longer than MaxLine.
func cutLong(line Line) (head, rest Line) {
	head, rest = line, line
	if line.Flags&job.Many != 0 {
		if i := bytes.LastIndexByte(line.Data[:MaxLine+1], '\n'); i >= 0 {
			head.Flags &^= job.Unended
			head.Data, rest.Data = line.Data[:i], line.Data[i+1:]
			return head, rest
		}
	}
	head.Flags = head.Flags&^job.Many | job.Unended
	head.Data, rest.Data = line.Data[:MaxLine], line.Data[MaxLine:]
	return head, rest
}

func (w *Writer) append(line Line) error {
	w.partial = nil
	line.Flags &^= job.Partial
	begin := len(w.text)
	w.text = append(w.text, line.Data...)
	if line.Flags&job.Unended == 0 {
		w.text = append(w.text, '\n')
	}
	octets := w.text[begin:]
	e := entry{
		end: w.last.end + int64(len(octets)), lines: w.last.lines + line.Count(),
		delta: line.Delta, flags: line.Flags,
	}
	e.sum = e.checksum(w.last, octets, &w.scratch)
	w.index = e.append(w.index)
	w.last = e
	w.pieces++
	if len(w.text)+len(w.index) < flushSize {
		return nil
	}
	return w.Flush()
}

// SetPartial sets the line that is being printed and has no end yet, flagged
// job.Partial; at most MaxLine octets of it are kept. The next Flush shows it to the observers that
// ask for it; it never gets to the files. It stands until the next Append.
func (w *Writer) SetPartial(data []byte, delta time.Duration) {
	data = data[:min(len(data), MaxLine)]
	w.partial = &Line{Delta: delta, Flags: job.Partial, Data: append([]byte(nil), data...)}
}

// Flush writes what was appended to the files and shows it, and the partial line,
// to observers. It does not sync: what a kill of the process can not take away, a
// power cut still can.
func (w *Writer) Flush() error {
	if w.err != nil {
		return w.err
	}
	if err := w.write(w.files.text, w.text); err != nil {
		return err
	}
	if err := w.write(w.files.index, w.index); err != nil {
		return err
	}
	w.keep()
	w.text, w.index = w.text[:0], w.index[:0]
	w.show(w.view())
	return nil
}

// keep keeps what was written.
func (w *Writer) keep() {
	w.keeps = w.keeps && len(w.keptText)+len(w.keptIndex)+len(w.text)+len(w.index) <= keepSize
	if !w.keeps {
		w.keptText, w.keptIndex = nil, nil
		return
	}
	w.keptText, w.keptIndex = append(w.keptText, w.text...), append(w.keptIndex, w.index...)
}

func (w *Writer) write(f disk.File, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if _, err := f.Write(data); err != nil {
		w.err = fmt.Errorf("writing console: %w", err)
	}
	return w.err
}

// show makes v what observers see, and wakes those that wait, if it is news.
func (w *Writer) show(v view) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v == w.visible {
		return
	}
	w.visible = v
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// Sync flushes and makes both files durable. The names of the files are durable
// only when the caller has synced the directory after Create or Reopen.
func (w *Writer) Sync() error {
	if err := w.Flush(); err != nil {
		return err
	}
	if err := w.files.sync(); err != nil {
		w.err = fmt.Errorf("syncing console: %w", err)
	}
	return w.err
}

// Close flushes (without a sync) and closes the files; observers get what is
// left and then the end. After an error it cuts the files to what observers saw,
// so that a Reader finds a sound console, and returns nil when that worked: the
// error itself was reported before. How much of that is durable is not known then:
// after a failed write Reopen makes it so, after a failed sync nothing does.
// Closing again does nothing.
func (w *Writer) Close() error {
	if w.err == errClosed { //nolint:errorlint // this very value, never wrapped
		return nil
	}
	broken := w.err != nil
	err := w.Flush()
	seen := w.now()
	if broken || err != nil {
		cut := w.files.cut(seen.pieces, seen.size)
		if broken {
			err = nil
		}
		err = errors.Join(err, cut)
	}
	err = errors.Join(err, w.files.close())
	w.err = errClosed
	seen.partial, seen.closed = nil, true
	w.show(seen)
	if err != nil {
		return fmt.Errorf("closing console: %w", err)
	}
	return nil
}

// Closed reports whether nothing more will come.
func (w *Writer) Closed() bool { return w.now().closed }

// Lines is the number of lines that were flushed.
func (w *Writer) Lines() int64 { return w.now().lines }

// Size is the number of octets of the text that were flushed.
func (w *Writer) Size() int64 { return w.now().size }

// Small returns what both files hold, as far as it was flushed, if that is no more than
// 16 KiB together and the Writer was made by Create. It is what was written: after an
// error that nobody has heard of yet a disk may read as something else.
func (w *Writer) Small() (text, index []byte, ok bool) {
	return w.keptText, w.keptIndex, w.keeps
}

func (w *Writer) now() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.visible
}

// wait returns what observers may see now, and a channel that is closed when that
// has changed.
func (w *Writer) wait() (view, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.visible, w.changed
}
