package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Output is the output directory of a place, after the build has ended. The build
// could do anything to it.
type Output struct {
	dir   string
	root  *os.Root // opened by Artifacts, closed by Close
	empty bool     // Artifacts found it empty, and removed it
}

// NewOutput returns the Output of a directory, which need not exist yet. The caller
// closes it.
func NewOutput(dir string) *Output { return &Output{dir: dir} }

// Artifacts lists as [Place] says.
func (o *Output) Artifacts(check func(path string) error) ([]Artifact, []Note, error) {
	if o.root == nil && !o.empty {
		o.empty = unix.Rmdir(o.dir) == nil // one call, the most frequent case
	}
	if o.empty {
		return nil, nil, nil
	}
	root, err := o.open()
	if err != nil {
		return nil, []Note{{Path: ".", Text: "unreadable output directory: " + reason(err)}}, nil
	}
	c := collector{root: root, check: check, pending: []string{"."}}
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

// open opens the directory, unless the build has replaced it: a symbolic link could
// lead anywhere.
func (o *Output) open() (*os.Root, error) {
	if o.root != nil {
		return o.root, nil
	}
	info, err := os.Lstat(o.dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return nil, err
	}
	if opened, err := root.Stat("."); err != nil || !os.SameFile(info, opened) {
		shut(root)
		return nil, errors.New("it was replaced")
	}
	o.root = root
	return root, nil
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
	if o.root != nil {
		shut(o.root)
	}
}
