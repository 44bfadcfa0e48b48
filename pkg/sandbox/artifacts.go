package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// maxArtifactPath is the longest path, in octets, that FreeBSD can name and
// Linux is content with.
const maxArtifactPath = 1023

// Artifact is a regular file that a build left in its output directory. Several
// names of one file are several artifacts.
type Artifact struct {
	// Path is relative to the output directory, clean, with slashes. Any octets
	// but NUL may be in a name.
	Path string
	Size int64
	// Mode holds the permission bits only.
	Mode fs.FileMode

	root *os.Root
	info fs.FileInfo
}

// Note names something in the output directory that is not an artifact.
type Note struct {
	Path string // as in Artifact
	Text string // why it is not
}

// Open opens the artifact for reading. It fails when the path now names another
// file than the one that was listed. It may be called from several goroutines,
// until Destroy.
func (a Artifact) Open() (*os.File, error) {
	f, info, err := openRegular(a.root, a.Path)
	if err != nil {
		return nil, fmt.Errorf("opening artifact: %w", err)
	}
	if !os.SameFile(info, a.info) {
		shut(f)
		return nil, fmt.Errorf("opening artifact %q: it was replaced by another file", a.Path)
	}
	return f, nil
}

var errNotRegular = errors.New("not a regular file")

// openRegular opens a file that may have been replaced by anything meanwhile: it
// does not wait for a writer of a FIFO.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	if err != nil {
		shut(f)
		return nil, nil, err
	}
	return f, info, nil
}

// collector walks the output directory, with a list in place of recursion since
// a build may nest directories as deep as it likes.
type collector struct {
	root      *os.Root
	check     func(name string) error
	pending   []string // directories
	artifacts []Artifact
	notes     []Note
}

func (c *collector) note(name, text string) {
	c.notes = append(c.notes, Note{Path: name, Text: text})
}

// directory collects what is in one directory.
func (c *collector) directory(dir string) error {
	// Names are looked up in an opened directory: cheap however deep it is.
	here, err := c.root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer shut(here)
	f, err := here.Open(".")
	if err != nil {
		return err
	}
	defer shut(f)
	entries, err := f.ReadDir(-1)
	for _, entry := range entries {
		c.entry(here, path.Join(dir, entry.Name()), entry)
	}
	return err
}

func (c *collector) entry(here *os.Root, name string, entry fs.DirEntry) {
	if len(name) > maxArtifactPath {
		c.note(name, fmt.Sprintf("path of %d octets: %d are allowed", len(name), maxArtifactPath))
		return
	}
	if entry.IsDir() {
		c.pending = append(c.pending, name)
		return
	}
	if !entry.Type().IsRegular() {
		c.note(name, kind(entry.Type()))
		return
	}
	if c.check != nil {
		if err := c.check(name); err != nil {
			c.note(name, err.Error())
			return
		}
	}
	f, info, err := openRegular(here, entry.Name())
	if err != nil {
		c.note(name, "unreadable file: "+reason(err))
		return
	}
	shut(f)
	c.artifacts = append(c.artifacts, Artifact{
		Path: name, Size: info.Size(), Mode: info.Mode().Perm(), root: c.root, info: info,
	})
}

// kind says what is not followed.
func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link, not followed"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	default:
		return errNotRegular.Error()
	}
}

// reason is an error without the path, which the note has.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}
