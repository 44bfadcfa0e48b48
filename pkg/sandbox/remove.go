package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// removeBare removes a place in which the build has left nothing, with one call
// for each name. It reports whether all is gone; if not, remove has to do it.
func removeBare(p *place) bool {
	unix.Unlink(p.script()) //nolint:errcheck // the last call tells
	for _, dir := range []string{p.output(), p.home(), p.temp()} {
		unix.Rmdir(dir) //nolint:errcheck // as above
	}
	return unix.Rmdir(p.dir) == nil
}

// remove removes a directory that a build could do anything to, but that nothing
// uses any more. Symbolic links are removed, not followed.
func remove(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	// Some directory is read-only or unreadable, or they are nested deeper than
	// there are descriptors.
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrPermission) {
		if err = os.Chmod(dir, 0o700); err == nil { // the build could not replace dir itself
			root, err = os.OpenRoot(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	defer shut(root)
	if err := root.Chmod(".", 0o700); err != nil {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	for {
		names, err := list(root, ".")
		if err != nil {
			return fmt.Errorf("removing %s: %w", dir, err)
		}
		if len(names) == 0 {
			return os.Remove(dir)
		}
		for _, name := range names {
			if err := flatten(root, name); err != nil {
				return fmt.Errorf("removing %s: %w", dir, err)
			}
		}
	}
}

// flatten removes name, which is directly in root. If it is a directory, the
// directories in it are moved up into root, so that nothing is ever deeper than
// two levels.
func flatten(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return root.Remove(name)
	}
	if err := root.Chmod(name, 0o700); err != nil {
		return err
	}
	names, err := list(root, name)
	if err != nil {
		return err
	}
	for _, below := range names {
		below = name + "/" + below
		info, err := root.Lstat(below)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			err = root.Remove(below)
		} else if err = root.Chmod(below, 0o700); err == nil { // moving rewrites its ".."
			err = root.Rename(below, rand.Text())
		}
		if err != nil {
			return err
		}
	}
	return root.Remove(name)
}

func list(root *os.Root, name string) ([]string, error) {
	dir, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer shut(dir)
	names, err := dir.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
