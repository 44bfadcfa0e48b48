package disk

import (
	"cmp"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Room implements [FS].
func (OS) Room(dir string) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	unit := int64(cmp.Or(s.Frsize, s.Bsize)) //nolint:unconvert // on machines of 32 bits it is none
	return Room{
		Free: int64(s.Bavail) * unit, Size: int64(s.Blocks) * unit,
		FreeFiles: int64(s.Ffree), Files: int64(s.Files),
	}, nil
}
