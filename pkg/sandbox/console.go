package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	consoleBuffer = 48 << 10
	// maxPipe is more than a pipe can hold (fs.pipe-max-size, for those who are
	// not root).
	maxPipe = 4 << 20
)

// pipe makes the console's pipe. Our end can be waited for with a deadline; the
// script's must block as programs expect it, so it never becomes an os.File,
// which would make it non-blocking.
func pipe() (read *os.File, write int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, 0, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "console"), fds[1], nil
}

// consoleBuffers keeps short builds from costing a buffer each.
var consoleBuffers = sync.Pool{New: func() any { return new([consoleBuffer]byte) }}

// CopyConsole copies what the build prints until nobody can print any more, or
// until r's deadline has passed and the pipe is empty. When writing to w fails it
// has the build stopped, and goes on reading so that the build can end: one that
// is blocked in a write would need KILL.
func CopyConsole(w io.Writer, r *os.File, stop context.CancelCauseFunc) error {
	var failure error
	write := func(p []byte) {
		if failure != nil || len(p) == 0 {
			return
		}
		if _, err := w.Write(p); err != nil {
			failure = fmt.Errorf("writing console: %w", err)
			stop(failure)
		}
	}
	pooled := consoleBuffers.Get().(*[consoleBuffer]byte)
	defer consoleBuffers.Put(pooled)
	buffer := pooled[:]
	for {
		n, err := r.Read(buffer)
		write(buffer[:n])
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = drain(r, buffer, write)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			failure = errors.Join(failure, fmt.Errorf("reading console: %w", err))
			stop(failure)
		}
		return failure
	}
}

// drain reads what the pipe holds without waiting for more.
func drain(r *os.File, buffer []byte, write func([]byte)) error {
	raw, err := r.SyscallConn()
	if err != nil {
		return err
	}
	for total := 0; total < maxPipe; {
		var n int
		var failure error
		err := raw.Control(func(fd uintptr) { n, failure = unix.Read(int(fd), buffer) })
		switch {
		case err != nil:
			return err
		case errors.Is(failure, unix.EINTR):
			continue
		case errors.Is(failure, unix.EAGAIN):
			return nil
		case failure != nil:
			return failure
		case n == 0:
			return nil
		}
		write(buffer[:n])
		total += n
	}
	return nil
}

// endConsole ends the copying after the build is over. All that it printed is in
// the pipe then. The pipe's end is not waited for: a process outside of the tree
// may have been given the other end, and keep it for ever.
func endConsole(r *os.File, copied <-chan error) error {
	if err := r.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return errors.Join(err, <-copied)
	}
	return <-copied
}

// shut closes what was only read from, or what an error has made worthless: such
// a close has nothing to tell.
func shut(c io.Closer) { c.Close() }
