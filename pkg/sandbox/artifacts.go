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

	out      *Output
	dev, ino uint64
}

// Note names something in the output directory that is not an artifact.
type Note struct {
	Path string // as in Artifact
	Text string // why it is not
}

// Open opens the artifact for reading. It fails when the path now names another
// file than the one that was listed, and when the worker may not read it. It may be
// called from several goroutines, until Destroy; those that lie together are opened
// fastest one after the other.
func (a Artifact) Open() (*os.File, error) {
	fd, err := a.open()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), a.Path), nil
}

// Read gives take the octets of the artifact, in pieces that fit into buffer, until
// it returns an error. The file is opened as Open does, but at half the cost, which
// counts where there are thousands.
func (a Artifact) Read(buffer []byte, take func(octets []byte) error) error {
	fd, err := a.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	for {
		var n int
		err := uninterrupted(func() (err error) {
			n, err = unix.Read(fd, buffer)
			return err
		})
		if err != nil {
			return fmt.Errorf("reading artifact: %w", err)
		}
		if n == 0 {
			return nil
		}
		if err := take(buffer[:n]); err != nil {
			return err
		}
	}
}

func (a Artifact) open() (fd int, err error) {
	if fd, err = a.out.open(a.Path); err != nil {
		return -1, fmt.Errorf("opening artifact: %w", err)
	}
	var s unix.Stat_t
	err = uninterrupted(func() error { return unix.Fstat(fd, &s) })
	if err == nil && (!isRegular(&s) || a.dev != device(&s) || a.ino != s.Ino) {
		err = errReplaced
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // it was not even read
		return -1, fmt.Errorf("opening artifact: %w", err)
	}
	return fd, nil
}

var (
	errNotRegular = errors.New("not a regular file")
	errReplaced   = errors.New("it was replaced")
)

func isRegular(s *unix.Stat_t) bool { return s.Mode&unix.S_IFMT == unix.S_IFREG }

func device(s *unix.Stat_t) uint64 { return uint64(s.Dev) } //nolint:unconvert // types differ between systems

// uninterrupted repeats a system call that a signal has interrupted, as package os
// does.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// collector walks the output directory, with a list in place of recursion since
// a build may nest directories as deep as it likes.
type collector struct {
	out       *Output
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
	f, err := openDirectory(c.out.root, dir)
	if err != nil {
		return err
	}
	defer shut(f)
	names, err := f.Readdirnames(-1)
	for _, name := range names {
		c.entry(f, path.Join(dir, name), name)
	}
	return err
}

// entry collects one entry of here. Names are looked up in an opened directory:
// cheap however deep it is.
func (c *collector) entry(here *os.File, name, base string) {
	if len(name) > maxArtifactPath {
		c.note(name, fmt.Sprintf("path of %d octets: %d are allowed", len(name), maxArtifactPath))
		return
	}
	var s unix.Stat_t
	err := uninterrupted(func() error {
		return unix.Fstatat(int(here.Fd()), base, &s, unix.AT_SYMLINK_NOFOLLOW)
	})
	switch {
	case err != nil:
		c.note(name, "unreadable file: "+reason(err))
		return
	case s.Mode&unix.S_IFMT == unix.S_IFDIR:
		c.pending = append(c.pending, name)
		return
	case !isRegular(&s):
		c.note(name, kind(uint32(s.Mode))) //nolint:unconvert // types differ between systems
		return
	}
	if c.check != nil {
		if err := c.check(name); err != nil {
			c.note(name, err.Error())
			return
		}
	}
	c.artifacts = append(c.artifacts, Artifact{
		Path: name, Size: s.Size, Mode: fs.FileMode(s.Mode) & fs.ModePerm, out: c.out, dev: device(&s), ino: s.Ino,
	})
}

// kind says what is not followed.
func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return "symbolic link, not followed"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR, unix.S_IFBLK:
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
