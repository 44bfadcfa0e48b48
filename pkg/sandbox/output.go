package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Output is the output directory of a place, after the build has ended. The build
// could do anything to it.
type Output struct {
	dir   string
	root  *os.Root // opened by Artifacts, closed by Close
	empty bool     // Artifacts found it empty, and removed it

	mu   sync.Mutex
	path string   // of here, in root
	here *os.File // the directory in which a file was opened last
}

// NewOutput returns the Output of a directory, which need not exist yet. The caller
// closes it.
func NewOutput(dir string) *Output { return &Output{dir: dir} }

// Artifacts lists as [Place] says.
func (o *Output) Artifacts(check func(name string) error) ([]Artifact, []Note, error) {
	if o.root == nil && !o.empty {
		o.empty = unix.Rmdir(o.dir) == nil // one call, the most frequent case
	}
	if o.empty {
		return nil, nil, nil
	}
	if err := o.openRoot(); err != nil {
		return nil, []Note{{Path: ".", Text: "unreadable output directory: " + reason(err)}}, nil
	}
	c := collector{out: o, check: check, pending: []string{"."}}
	for len(c.pending) > 0 {
		dir := c.pending[len(c.pending)-1]
		c.pending = c.pending[:len(c.pending)-1]
		if err := c.directory(dir); err != nil {
			c.note(dir, "unreadable directory: "+reason(err))
		}
	}
	slices.SortFunc(c.artifacts, func(a, b Artifact) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(c.notes, func(a, b Note) int { return strings.Compare(a.Path, b.Path) })
	return c.artifacts, c.notes, nil
}

// openRoot opens the directory, unless the build has replaced it: a symbolic link
// could lead anywhere.
func (o *Output) openRoot() error {
	if o.root != nil {
		return nil
	}
	info, err := os.Lstat(o.dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return err
	}
	if opened, err := root.Stat("."); err != nil || !os.SameFile(info, opened) {
		shut(root)
		return errReplaced
	}
	o.root = root
	return nil
}

// open opens a file that may have been replaced by anything meanwhile: it follows no
// link and does not wait for a writer of a FIFO.
func (o *Output) open(name string) (fd int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if dir := path.Dir(name); o.here == nil || dir != o.path {
		here, err := openDirectory(o.root, dir)
		if err != nil {
			return -1, err
		}
		o.shutHere()
		o.path, o.here = dir, here
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC
	err = uninterrupted(func() (err error) {
		fd, err = unix.Openat(int(o.here.Fd()), path.Base(name), flags, 0)
		return err
	})
	return fd, err
}

// openDirectory does not wait either.
func openDirectory(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

func (o *Output) shutHere() {
	if o.here != nil {
		shut(o.here)
		o.here = nil
	}
}

// Salvage moves the directory as [Place] says. Where dir is on another file system
// its regular files are copied instead.
func (o *Output) Salvage(dir string) error {
	info, err := os.Lstat(o.dir)
	if err == nil && info.IsDir() { // and not a link that leads anywhere
		err = os.Chmod(o.dir, 0o700) // moving a directory rewrites its ".."
	}
	if err == nil {
		err = os.Rename(o.dir, dir)
	}
	if errors.Is(err, unix.EXDEV) {
		err = o.copy(dir)
	}
	if err != nil {
		return fmt.Errorf("salvaging artifacts: %w", err)
	}
	return nil
}

func (o *Output) copy(dir string) error {
	artifacts, _, err := o.Artifacts(nil)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, artifact := range artifacts {
		if err := artifact.copy(filepath.Join(dir, artifact.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (a Artifact) copy(name string) error {
	from, err := a.Open()
	if err != nil {
		return err
	}
	defer shut(from)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, a.Mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// Close ends the use of it. No Artifact of it can be opened any more.
func (o *Output) Close() {
	o.shutHere()
	if o.root != nil {
		shut(o.root)
	}
}
