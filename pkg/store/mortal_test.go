package store_test

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"builder/pkg/disk"
)

// errKilled is what every operation returns to a process that was killed.
var errKilled = errors.New("killed")

// mortal is the file system as a process sees it that is killed in its n-th
// operation (reads do not count): that one and all later ones do nothing. Unlike
// a fault it does no harm: what was written can be synced by the next process.
type mortal struct {
	disk.FS
	left atomic.Int64
}

func newMortal(fsys disk.FS, n int) *mortal {
	m := &mortal{FS: fsys}
	m.left.Store(int64(n))
	return m
}

func (m *mortal) step() error {
	if m.left.Add(-1) <= 0 {
		return errKilled
	}
	return nil
}

func (m *mortal) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	f, err := m.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return mortalFile{f, m}, nil
}

func (m *mortal) Mkdir(name string, perm fs.FileMode) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.FS.Mkdir(name, perm)
}

func (m *mortal) Rename(oldname, newname string) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.FS.Rename(oldname, newname)
}

func (m *mortal) Remove(name string) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.FS.Remove(name)
}

func (m *mortal) SyncDir(name string) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.FS.SyncDir(name)
}

func (m *mortal) OpenBarrier(dir string) (disk.Barrier, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	b, err := m.FS.OpenBarrier(dir)
	if err != nil {
		return nil, err
	}
	return mortalBarrier{b, m}, nil
}

type mortalBarrier struct {
	disk.Barrier
	m *mortal
}

func (b mortalBarrier) Sync() error {
	if err := b.m.step(); err != nil {
		return err
	}
	return b.Barrier.Sync()
}

type mortalFile struct {
	disk.File
	m *mortal
}

func (f mortalFile) Write(p []byte) (int, error) {
	if err := f.m.step(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f mortalFile) Truncate(size int64) error {
	if err := f.m.step(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f mortalFile) Sync() error {
	if err := f.m.step(); err != nil {
		return err
	}
	return f.File.Sync()
}
