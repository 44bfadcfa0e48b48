package disk

import (
	"errors"
	"io/fs"
	"os"
)

// RenameNew renames a file or a directory to a name that must not exist: then the error
// is an fs.ErrExist. Where the system or the file system can not do that with one call,
// nobody else may be making that name. Like [Lock] it is for what need not survive a
// power cut.
func RenameNew(oldname, newname string) error {
	switch err := renameNew(oldname, newname); {
	case err == nil:
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		return lookAndRename(oldname, newname)
	default:
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
}

func lookAndRename(oldname, newname string) error {
	switch _, err := os.Lstat(newname); {
	case err == nil:
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.Rename(oldname, newname)
}
