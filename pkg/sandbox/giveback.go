package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// giveBack hands the files of an account that lie below dir, and dir itself, to this
// user, who is root. Files of others are left alone: a build can make hard links to
// them. No link is followed. The bits that make a program run as its owner go.
func giveBack(dir string, from uint32) error {
	return walk(dir, from, func(root *os.Root, name string, info fs.FileInfo) error {
		if info.Mode().IsRegular() && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			if err := root.Chmod(name, info.Mode().Perm()); err != nil {
				return err
			}
		}
		return root.Lchown(name, os.Geteuid(), os.Getegid())
	})
}

// openUp lets everybody who gets to dir at the files in it that belong to this user:
// the worker can neither become that user nor be given files by it.
func openUp(dir string) error {
	return walk(dir, uint32(os.Geteuid()), func(root *os.Root, name string, info fs.FileInfo) error {
		switch {
		case info.IsDir():
			return root.Chmod(name, 0o777)
		case info.Mode().IsRegular():
			return root.Chmod(name, info.Mode().Perm()|0o444)
		}
		return nil
	})
}

// walk calls visit for everything of that owner below dir, and for dir; for a
// directory before what is in it. Nothing of the build is alive, so nothing moves.
func walk(dir string, owner uint32, visit func(root *os.Root, name string, info fs.FileInfo) error) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil // the build has replaced it
	}
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer shut(root)
	if info, err := root.Stat("."); err != nil {
		return err
	} else if owned(info, owner) {
		if err := visit(root, ".", info); err != nil {
			return err
		}
	}
	if err := walkBelow(root, owner, visit); err != nil {
		return fmt.Errorf("giving back %s: %w", dir, err)
	}
	return nil
}

// deep is how many directories below each other are looked up by name. Below that
// each costs a look at all above it, and with less a descriptor is needed for more.
const deep = 64

// walkBelow is walk below an open directory.
func walkBelow(root *os.Root, owner uint32, visit func(root *os.Root, name string, info fs.FileInfo) error) error {
	for pending := []string{"."}; len(pending) > 0; {
		last := len(pending) - 1
		dir := pending[last]
		pending = pending[:last]
		if strings.Count(dir, "/") == deep {
			here, err := root.OpenRoot(dir)
			if err != nil {
				return err
			}
			err = walkBelow(here, owner, visit)
			shut(here)
			if err != nil {
				return err
			}
			continue
		}
		below, err := walkOne(root, dir, owner, visit)
		if err != nil {
			return err
		}
		pending = append(pending, below...)
	}
	return nil
}

// walkOne visits what is in one directory, and returns the directories among it.
func walkOne(root *os.Root, dir string, owner uint32, visit func(*os.Root, string, fs.FileInfo) error) ([]string, error) {
	here, err := root.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer shut(here)
	names, err := list(here, ".")
	if err != nil {
		return nil, err
	}
	var below []string
	for _, name := range names {
		info, err := here.Lstat(name)
		if err != nil {
			return nil, err
		}
		if owned(info, owner) {
			if err := visit(here, name, info); err != nil {
				return nil, err
			}
		}
		if info.IsDir() {
			below = append(below, path.Join(dir, name))
		}
	}
	return below, nil
}

func owned(info fs.FileInfo, owner uint32) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == owner
}
