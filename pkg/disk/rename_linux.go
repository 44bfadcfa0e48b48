package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// renameNew is RenameNew with one call, or an errors.ErrUnsupported.
func renameNew(oldname, newname string) error {
	for {
		err := unix.Renameat2(unix.AT_FDCWD, oldname, unix.AT_FDCWD, newname, unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL): // the file system has no such thing
			return errors.ErrUnsupported
		default:
			return err
		}
	}
}
