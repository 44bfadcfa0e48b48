package disktest_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"
)

// TestBarrier: what a barrier has synced is there after a power cut, with its names,
// of files that are open, closed or not; what it failed to sync may not be.
func TestBarrier(t *testing.T) {
	const want = "a=closed b=open"
	for name, test := range map[string]struct {
		barrier func(*disktest.FS) error
		kept    bool // always
	}{
		"none": {func(*disktest.FS) error { return nil }, false},
		"synced": {func(fsys *disktest.FS) error {
			b, err := fsys.OpenBarrier("/")
			if err != nil {
				return err
			}
			return b.Sync()
		}, true},
		"failed": {func(fsys *disktest.FS) error {
			b, err := fsys.OpenBarrier("/")
			if err != nil {
				return err
			}
			fsys.Inject(disktest.Fault{Op: disktest.OpBarrier, N: 1, Err: syscall.EIO})
			if err := b.Sync(); !errors.Is(err, syscall.EIO) {
				return errors.New("no error")
			}
			return b.Sync() // proves nothing
		}, false},
		"failed for others": {func(fsys *disktest.FS) error {
			b, err := fsys.OpenBarrier("/")
			if err != nil {
				return err
			}
			other, err := fsys.OpenBarrier("/")
			if err != nil {
				return err
			}
			fsys.Inject(disktest.Fault{Op: disktest.OpBarrier, N: 1, Err: syscall.EIO})
			if err := other.Sync(); !errors.Is(err, syscall.EIO) {
				return errors.New("no error")
			}
			if err := b.Sync(); !errors.Is(err, syscall.EIO) {
				return errors.New("no error of what another barrier lost")
			}
			return b.Sync() // proves nothing
		}, false},
		"failed before a sync": {func(fsys *disktest.FS) error {
			f, err := fsys.OpenFile("/c", os.O_WRONLY|os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			if _, err := f.Write([]byte("written")); err != nil {
				return err
			}
			b, err := fsys.OpenBarrier("/")
			if err != nil {
				return err
			}
			fsys.Inject(disktest.Fault{Op: disktest.OpBarrier, N: 1, Err: syscall.EIO})
			if err := b.Sync(); !errors.Is(err, syscall.EIO) {
				return errors.New("no error")
			}
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				return errors.New("no error of what a barrier lost of the file")
			}
			return f.Sync() // proves nothing
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			lost := 0
			for seed := range uint64(50) {
				s := script{t, disktest.New(seed)}
				s.check(s.write("/a", 0, "closed").Close())
				s.write("/b", 0, "open")
				s.check(test.barrier(s.fs))
				if tree(t, s.fs.Crash(), "/") != want {
					lost++
				}
			}
			if test.kept != (lost == 0) {
				t.Errorf("%d of 50 lost something", lost)
			}
		})
	}
	if _, err := disktest.New(1).OpenBarrier("/missing"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a barrier on nothing: %v", err)
	}
}
