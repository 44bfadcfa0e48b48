package disk

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Room implements [FS]. Of what is left for root only, the system says that it is
// less than nothing.
func (OS) Room(dir string) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Room{
		Free: max(0, s.Bavail) * int64(s.Bsize), Size: int64(s.Blocks) * int64(s.Bsize),
		FreeFiles: max(0, s.Ffree), Files: int64(s.Files),
	}, nil
}
