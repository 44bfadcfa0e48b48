package console

import (
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

var errClosed = fmt.Errorf("writing console: %w", os.ErrClosed)

// Writer appends to a console. Append, SetPartial, Flush, Sync and Close are for
// one goroutine at a time; Observe, Lines and Size are safe to be called from any.
//
// After an error of a write or a sync it is not known what the files hold behind
// the last good Flush: the Writer keeps returning that error, and what remains to
// be done is Close.
type Writer struct {
	fsys  disk.FS
	files files

	// What Append gathered and Flush has not written yet.
	text, index []byte
	lines, end  int64 // with that
	partial     *Line
	scratch     [covered]byte
	err         error

	mu      sync.Mutex
	visible view
	changed chan struct{} // closed at the next change of visible; nil when nobody waits
}

// view is what observers may see: a prefix of the files, and the line that is
// being printed. It is replaced as a whole, so replay and live are joined there.
type view struct {
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
	return newWriter(fsys, f, 0, 0), nil
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
	lines, end, err := validPrefix(f)
	if err == nil {
		err = f.cut(lines, end)
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
	return newWriter(fsys, f, lines, end), nil
}

func newWriter(fsys disk.FS, f files, lines, end int64) *Writer {
	return &Writer{fsys: fsys, files: f, lines: lines, end: end, visible: view{lines: lines, size: end}}
}

// validPrefix reads the files up to the first damage.
func validPrefix(f files) (lines, end int64, err error) {
	_, size, err := f.sizes()
	if err != nil {
		return 0, 0, err
	}
	b := batches.Get().(*batch)
	defer batches.Put(b)
	for count := size / entrySize; lines < count; {
		read, err := b.forward(f, lines, count)
		var damage *DamageError
		if errors.As(err, &damage) {
			break
		} else if err != nil {
			return 0, 0, err
		}
		lines += int64(len(read))
		end = b.end
	}
	return lines, end, nil
}

// cut makes the files end behind the given line, and the next writes go there.
func (f files) cut(lines, end int64) error {
	for _, part := range []struct {
		file disk.File
		size int64
	}{{f.index, lines * entrySize}, {f.text, end}} {
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
// becomes several, with job.Unended on all but the last; job.Partial is taken off.
// Append takes the place of what SetPartial showed.
func (w *Writer) Append(lines ...Line) error {
	if w.err != nil {
		return w.err
	}
	for _, line := range lines {
		for len(line.Data) > MaxLine {
			if err := w.append(line.Delta, line.Flags|job.Unended, line.Data[:MaxLine]); err != nil {
				return err
			}
			line.Data = line.Data[MaxLine:]
		}
		if err := w.append(line.Delta, line.Flags, line.Data); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) append(delta time.Duration, flags job.LineFlags, data []byte) error {
	w.partial = nil
	flags &^= job.Partial
	begin := len(w.text)
	w.text = append(w.text, data...)
	if flags&job.Unended == 0 {
		w.text = append(w.text, '\n')
	}
	octets := w.text[begin:]
	e := entry{end: w.end + int64(len(octets)), delta: delta, flags: flags}
	e.sum = e.checksum(w.end, octets, &w.scratch)
	w.index = e.append(w.index)
	w.end = e.end
	w.lines++
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
	w.text, w.index = w.text[:0], w.index[:0]
	w.show(view{lines: w.lines, size: w.end, partial: w.partial})
	return nil
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
	if broken || err != nil {
		cut := w.files.cut(w.Lines(), w.Size())
		if broken {
			err = nil
		}
		err = errors.Join(err, cut)
	}
	err = errors.Join(err, w.files.close())
	w.err = errClosed
	w.show(view{lines: w.Lines(), size: w.Size(), closed: true})
	if err != nil {
		return fmt.Errorf("closing console: %w", err)
	}
	return nil
}

// Lines is the number of lines that were flushed.
func (w *Writer) Lines() int64 { return w.now().lines }

// Size is the number of octets of the text that were flushed.
func (w *Writer) Size() int64 { return w.now().size }

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
