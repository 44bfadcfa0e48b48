package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// volume is a directory of a disk that can be full: a small file system in
// memory, where that can be mounted.
type volume struct {
	dir     string
	mounted bool
}

// newVolume makes the directory, and mounts a disk of so many octets there. The
// error says why there is none: the directory is there nevertheless.
func newVolume(dir string, octets int64) (volume, error) {
	v := volume{dir: dir}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return v, err
	}
	err := mount(dir, octets)
	v.mounted = err == nil
	return v, err
}

func (v volume) ballast() string { return filepath.Join(v.dir, "ballast") }

// fill leaves no room.
func (v volume) fill() error {
	f, err := os.Create(v.ballast())
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for len(piece) > 0 {
		if _, err := f.Write(piece); errors.Is(err, syscall.ENOSPC) {
			piece = piece[:len(piece)/2]
		} else if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// free makes room again.
func (v volume) free() error {
	err := os.Remove(v.ballast())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Close unmounts it. What is in it is copied to the directory keep, unless that
// is empty.
func (v volume) Close(keep string) error {
	if !v.mounted {
		return nil
	}
	var err error
	if keep != "" {
		err = os.CopyFS(keep, os.DirFS(v.dir))
	}
	return errors.Join(err, unmount(v.dir))
}
