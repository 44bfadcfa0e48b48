package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// MkdirAll makes name and its missing parents, and makes their names durable. For
// that it syncs a directory even when name exists: it belongs at a start, not into
// every write.
func MkdirAll(fsys FS, name string, perm fs.FileMode) error {
	info, err := fsys.Stat(name)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("making directory %s: a file of that name exists", name)
		}
		return syncExisting(fsys, name)
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(name, perm); err != nil && !os.IsExist(err) {
		return err
	}
	return fsys.SyncDir(parent)
}

// WriteFile writes a whole file so that after a power cut name holds either
// what it held before or all of what write wrote, and when WriteFile has
// returned nil, the latter. On an error name is as it was before, unless the
// error came from syncing the directory: then either may be found later.
// Two writers of one name at the same time are not supported.
func WriteFile(fsys FS, name string, perm fs.FileMode, write func(io.Writer) error) error {
	temporary := name + ".tmp"
	f, err := fsys.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(temporary, name)
	}
	if err != nil {
		fsys.Remove(temporary) //nolint:errcheck // the first error is the one to report
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// syncExisting makes the name of a directory durable that was there already: the
// process that made it may have died before its sync. (Then it is the deepest
// one that exists, since MkdirAll goes on when the one above is durable.) A
// parent that may not be opened was not made by us.
func syncExisting(fsys FS, name string) error {
	err := fsys.SyncDir(filepath.Dir(name))
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
