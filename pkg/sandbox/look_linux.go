package sandbox

import (
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// look is everything about a directory that a build can see or change, but its inode's
// number, and its age.
type look struct {
	mode, owner, group  uint32
	device              uint64
	links, size, blocks int64
	flags               uint32 // see chattr(1)
	attributes          int    // octets of the names of its extended attributes
	names               string // that are in it
}

// lookAt looks at a directory. It is false when that can not be done.
func lookAt(name string) (look, bool) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return look{}, false
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	var s unix.Stat_t
	if unix.Fstat(fd, &s) != nil {
		return look{}, false
	}
	l := look{
		mode: s.Mode, owner: s.Uid, group: s.Gid, device: s.Dev,
		links: int64(s.Nlink), size: s.Size, blocks: s.Blocks, //nolint:gosec // there are few
	}
	if l.attributes, err = unix.Flistxattr(fd, nil); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return look{}, false
	}
	if l.flags, err = unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err != nil {
		l.flags = 0 // this file system has none
	}
	var buffer [512]byte // of more names than fit it is not as it was
	n, err := unix.Getdents(fd, buffer[:])
	if err != nil {
		return look{}, false
	}
	_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
	slices.Sort(names)
	l.names = strings.Join(names, "/")
	return l, true
}

// lastChange tells when anything about a directory changed, or in it. It is zero where
// that can not be told: the file system keeps whole seconds.
func lastChange(name string) untouched {
	var s unix.Stat_t
	if unix.Lstat(name, &s) != nil || s.Ctim.Nsec == 0 {
		return untouched{}
	}
	return untouched{s.Dev, s.Ino, time.Unix(s.Ctim.Unix())}
}
