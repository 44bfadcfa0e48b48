// Package disk is the seam between our durable data and a file system.
//
// Everything that must survive a power cut (journal, content store, build
// records, consoles) is written through [FS]: in production the operating
// system's ([OS]), in tests one that loses what was not synced and fails where
// it is told to (package disktest). It is not a general file system interface:
// it has exactly the operations whose order matters for durability.
//
// A file that is replaced as a whole is written by [WriteFile], not by renameio: that
// can not be tested against a power cut, and does not sync the directory.
//
// The one invariant that callers build on: data is durable when [File.Sync] of its
// file has returned nil, a name is durable when [FS.SyncDir] of its directory has
// returned nil, and neither says anything about the other. A [Barrier] around both is
// both.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoBarrier says that this system has no barrier for that file system which
// reports lost writes: files must be synced one by one.
var ErrNoBarrier = errors.New("no barrier that reports lost writes")

// FS is a file system. Names are paths as the operating system takes them.
// All methods are safe for concurrent use; errors are *fs.PathError or
// *os.LinkError, so errors.Is works with fs.ErrNotExist, syscall.ENOSPC etc.
type FS interface {
	// OpenFile is os.OpenFile. The name is durable after SyncDir of its directory.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Mkdir makes one directory; its name is durable after SyncDir of its parent.
	Mkdir(name string, perm fs.FileMode) error
	// Rename replaces newname atomically; durable after SyncDir of the directory
	// (of both directories when they differ).
	Rename(oldname, newname string) error
	// Remove removes one file or empty directory; durable after SyncDir.
	Remove(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat follows symbolic links.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// OpenBarrier opens a barrier on the file system of the directory dir. Where
	// there is none the error is an [ErrNoBarrier]. The caller closes it.
	OpenBarrier(dir string) (Barrier, error)
	// Room tells how much can still be written on the file system of the directory
	// dir. That changes with whatever else writes there.
	Room(dir string) (Room, error)
}

// File is an open file. After a failed Sync the state of what was written since
// the last good one is unknown: it must be written again, or cut off; calling
// Sync once more proves nothing.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Seeker
	io.Closer
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
}

// OS is the operating system's file system.
type OS struct{}

// OpenFile implements [FS].
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenFile is os.OpenFile for regular files and directories. That asks the kernel five
// times more, in case that the file is one that can be waited for.
func OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	for {
		fd, err := unix.Open(name, flag|unix.O_CLOEXEC, uint32(perm.Perm()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		default:
			return os.NewFile(uintptr(fd), name), nil
		}
	}
}

// Mkdir implements [FS].
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename implements [FS].
func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// ReadDir implements [FS].
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat implements [FS].
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SyncDir implements [FS].
func (o OS) SyncDir(name string) error {
	d, err := o.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
