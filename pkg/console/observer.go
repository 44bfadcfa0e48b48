package console

import (
	"context"
	"io"

	"builder/pkg/disk"
)

// Observer follows a console from one line on: first what is there, then what is
// appended, without a gap and without a double between the two. It reads from the
// files at its own pace. While it waits it holds two descriptors and no buffers.
// It is for one goroutine, and ends with Close.
type Observer struct {
	w       *Writer
	fsys    disk.FS
	next    int64 // number of the next line
	piece   int64 // number of the piece that holds it; -1 if not known yet
	partial bool
	seen    *Line // the partial line that was given last
	files   *files
	batch   *batch
}

// Observe returns an observer whose first line has the number from, counted from
// 0. It may be called after Close too. The caller closes the Observer.
func (w *Writer) Observe(from int64) *Observer {
	return &Observer{w: w, fsys: w.fsys, next: max(0, from), piece: -1}
}

// ShowPartial makes Next return partial lines too. It is called before Next.
func (o *Observer) ShowPartial() { o.partial = true }

// Next waits until there is something new and returns it: lines in order, some
// 64 KiB of them at most, those of job.Many as they were appended (but for the
// ones in front of the first that was asked for), or the partial line as it is
// now, or both. The partial
// line stands behind the lines; it is void as soon as Next returns anything else.
// All of it is valid until the next call of a method of o. The error is io.EOF
// when the console was closed and everything was given, and that of ctx when ctx
// ended. Any other error is final.
func (o *Observer) Next(ctx context.Context) (lines []Line, partial *Line, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		now, changed := o.w.wait()
		if o.next < now.lines {
			if lines, err = o.read(now.pieces); err != nil {
				return nil, nil, err
			}
		}
		if o.partial && o.next == now.lines && now.partial != o.seen {
			o.seen = now.partial
			partial = o.seen
		}
		if len(lines) > 0 || partial != nil {
			return lines, partial, nil
		}
		if now.closed {
			return nil, nil, io.EOF
		}
		o.release()
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// read reads lines from o.next on, of the first limit pieces.
func (o *Observer) read(limit int64) (lines []Line, err error) {
	if o.files == nil {
		f, err := openForReading(o.fsys, o.w.files.dir)
		if err != nil {
			return nil, err
		}
		o.files = &f
	}
	if o.batch == nil {
		o.batch = batches.Get().(*batch)
	}
	if o.piece < 0 {
		if o.piece, err = o.batch.find(*o.files, o.next, limit); err != nil {
			return nil, err
		}
	}
	lines, err = o.batch.from(*o.files, o.piece, limit, o.next)
	o.piece += int64(len(lines))
	if err == nil {
		o.next = o.batch.last.lines
	}
	return lines, err
}

func (o *Observer) release() {
	if o.batch != nil {
		batches.Put(o.batch)
		o.batch = nil
	}
}

// Close releases what o holds. It does not touch the Writer or other observers.
func (o *Observer) Close() error {
	o.release()
	if o.files == nil {
		return nil
	}
	err := o.files.close()
	o.files = nil
	return err
}
