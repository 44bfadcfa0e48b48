package disk

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// OpenBarrier implements [FS], by syncfs(2). The kernel remembers with the open
// directory which errors of its file system were reported: those of any write
// since then are, whatever became of the file. Names are data of the file system's
// own, or lie in its journal: syncfs writes both.
func (OS) OpenBarrier(dir string) (Barrier, error) {
	if err := syncfsReports(); err != nil {
		return nil, &os.PathError{Op: "barrier", Path: dir, Err: err}
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	var info unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &info)
	if err == nil && !slices.Contains(trusted, int64(info.Type)) { //nolint:unconvert // its size differs by processor
		err = ErrNoBarrier
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "barrier", Path: dir, Err: err}
	}
	return barrier{f}, nil
}

// trusted are the file systems known to pass every lost write on to syncfs. One
// that lies over others (overlayfs, FUSE) may not.
var trusted = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC}

// syncfsReports says whether syncfs of this kernel reports lost writes: up to
// Linux 5.7 it always returned nil for them.
var syncfsReports = sync.OnceValue(func() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return ErrNoBarrier
	}
	if major < 5 || major == 5 && minor < 8 {
		return ErrNoBarrier
	}
	return nil
})

type barrier struct{ dir *os.File }

func (b barrier) Sync() error {
	if err := unix.Syncfs(int(b.dir.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: b.dir.Name(), Err: err}
	}
	return nil
}

func (b barrier) Close() error { return b.dir.Close() }
