package disktest

import (
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// file is an open file.
type file struct {
	fs     *FS
	node   *node
	name   string
	flag   int
	offset int64
	seen   int // of the node's losses
	closed bool
}

// begin locks the file system and counts the operation. Nothing else may be
// done when the file is closed; the caller unlocks in any case.
func (h *file) begin(op Op) outcome {
	h.fs.mu.Lock()
	if h.closed {
		return outcome{err: fs.ErrClosed}
	}
	return h.fs.step(op)
}

func (h *file) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.name, Err: err}
}

func (h *file) Read(p []byte) (int, error) {
	do := h.begin(OpRead)
	defer h.fs.mu.Unlock()
	if !do.apply {
		return 0, h.fail("read", do.err)
	}
	n, err := h.read(p, h.offset)
	h.offset += int64(n)
	if len(p) > 0 && n > 0 {
		err = nil // as the operating system: the end is a read of its own
	}
	return n, err
}

func (h *file) ReadAt(p []byte, at int64) (int, error) {
	do := h.begin(OpRead)
	defer h.fs.mu.Unlock()
	if !do.apply {
		return 0, h.fail("read", do.err)
	}
	if at < 0 {
		return 0, h.fail("read", syscall.EINVAL)
	}
	return h.read(p, at)
}

func (h *file) read(p []byte, at int64) (int, error) {
	switch data := h.node.content.data; {
	case len(p) == 0:
		return 0, nil
	case h.node.mode.IsDir():
		return 0, h.fail("read", syscall.EISDIR)
	case h.flag&os.O_WRONLY != 0:
		return 0, h.fail("read", syscall.EBADF)
	case at >= int64(len(data)):
		return 0, io.EOF
	default:
		n := copy(p, data[at:])
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
}

func (h *file) Write(p []byte) (int, error) {
	do := h.begin(OpWrite)
	defer h.fs.mu.Unlock()
	if !do.apply && !do.partial {
		return 0, h.fail("write", do.err)
	}
	if h.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, h.fail("write", syscall.EBADF)
	}
	n := len(p)
	if !do.apply && n > 0 {
		n = h.fs.rng.IntN(n)
	}
	if h.flag&os.O_APPEND != 0 && n > 0 {
		h.offset = int64(len(h.node.content.data))
	}
	h.node.content.write(int(h.offset), p[:n])
	h.offset += int64(n)
	if do.err != nil {
		return n, h.fail("write", do.err)
	}
	return n, nil
}

func (h *file) Seek(offset int64, whence int) (int64, error) {
	do := h.begin(OpRead)
	defer h.fs.mu.Unlock()
	if !do.apply {
		return 0, h.fail("seek", do.err)
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += h.offset
	case io.SeekEnd:
		offset += int64(len(h.node.content.data))
	default:
		return 0, h.fail("seek", syscall.EINVAL)
	}
	if offset < 0 {
		return 0, h.fail("seek", syscall.EINVAL)
	}
	h.offset = offset
	return offset, nil
}

func (h *file) Truncate(size int64) error {
	do := h.begin(OpTruncate)
	defer h.fs.mu.Unlock()
	if !do.apply {
		return h.fail("truncate", do.err)
	}
	if size < 0 || h.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return h.fail("truncate", syscall.EINVAL)
	}
	h.node.content.truncate(int(size))
	if do.err != nil {
		return h.fail("truncate", do.err)
	}
	return nil
}

// Sync makes data and length durable. One that fails leaves any part of them on
// disk, and the rest to no later sync: that returns nil without having written
// what was not written again. Readers then see the new data or the old. Any sync of
// the file that has failed since it was opened, a barrier's too, is an error of the next
// Sync of each who has it open.
func (h *file) Sync() error {
	do := h.begin(OpSync)
	defer h.fs.mu.Unlock()
	switch {
	case do.apply:
		h.node.content.sync()
	case do.partial:
		h.node.content.failSync(h.fs.rng.IntN(2) == 0, h.fs.picker())
		h.node.losses++
		h.fs.losses++
	}
	if do.err == nil && h.seen != h.node.losses {
		do.err = syscall.EIO
	}
	h.seen = h.node.losses
	if do.err != nil {
		return h.fail("sync", do.err)
	}
	return nil
}

func (h *file) Stat() (fs.FileInfo, error) {
	do := h.begin(OpRead)
	defer h.fs.mu.Unlock()
	if !do.apply {
		return nil, h.fail("stat", do.err)
	}
	return h.node.info(path.Base(clean(h.name))), nil
}

// Close never fails but for a file that is closed: closing writes nothing.
func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return h.fail("close", fs.ErrClosed)
	}
	h.closed = true
	return nil
}

// info is the fs.FileInfo of a node as it was when asked for.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (n *node) info(name string) info {
	return info{name: name, size: int64(len(n.content.data)), mode: n.mode}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
