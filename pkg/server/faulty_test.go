package server_test

import (
	"io/fs"
	"sync/atomic"

	"builder/pkg/disk"
)

// faulty is the system's file system with operations that fail as a test says:
// it is asked before each, with its kind (open, mkdir, rename, remove, syncdir,
// write, truncate, sync, read, room) and the name of the file.
type faulty struct {
	system disk.OS
	fail   atomic.Pointer[func(op, name string) error]
	room   atomic.Pointer[disk.Room] // nil for the system's
}

func newFaulty() *faulty {
	f := &faulty{}
	f.set(nil)
	return f
}

// set says what fails from now on; nil for nothing.
func (f *faulty) set(fail func(op, name string) error) {
	if fail == nil {
		fail = func(string, string) error { return nil }
	}
	f.fail.Store(&fail)
}

func (f *faulty) check(op, name string) error {
	if err := (*f.fail.Load())(op, name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (f *faulty) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	op := "open"
	if flag == 0 {
		op = "read"
	}
	if err := f.check(op, name); err != nil {
		return nil, err
	}
	file, err := f.system.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f, name}, nil
}

func (f *faulty) Mkdir(name string, perm fs.FileMode) error {
	if err := f.check("mkdir", name); err != nil {
		return err
	}
	return f.system.Mkdir(name, perm)
}

func (f *faulty) Rename(oldname, newname string) error {
	if err := f.check("rename", newname); err != nil {
		return err
	}
	return f.system.Rename(oldname, newname)
}

func (f *faulty) Remove(name string) error {
	if err := f.check("remove", name); err != nil {
		return err
	}
	return f.system.Remove(name)
}

func (f *faulty) ReadDir(name string) ([]fs.DirEntry, error) { return f.system.ReadDir(name) }

func (f *faulty) Stat(name string) (fs.FileInfo, error) { return f.system.Stat(name) }

func (f *faulty) SyncDir(name string) error {
	if err := f.check("syncdir", name); err != nil {
		return err
	}
	return f.system.SyncDir(name)
}

type faultyFile struct {
	disk.File
	files *faulty
	name  string
}

// Write fails after the first half, as a full disk does.
func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.files.check("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.files.check("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if err := f.files.check("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// Room is the system's, unless it fails.
func (f *faulty) Room(dir string) (disk.Room, error) {
	if err := f.check("room", dir); err != nil {
		return disk.Room{}, err
	}
	if room := f.room.Load(); room != nil {
		return *room, nil
	}
	return f.system.Room(dir)
}

func (f *faulty) OpenBarrier(dir string) (disk.Barrier, error) {
	if err := f.check("open", dir); err != nil {
		return nil, err
	}
	b, err := f.system.OpenBarrier(dir)
	if err != nil {
		return nil, err
	}
	return faultyBarrier{b, f, dir}, nil
}

type faultyBarrier struct {
	disk.Barrier
	files *faulty
	dir   string
}

func (b faultyBarrier) Sync() error {
	if err := b.files.check("sync", b.dir); err != nil {
		return err
	}
	return b.Barrier.Sync()
}
