package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"builder/pkg/job"
	"builder/pkg/program"
	"builder/pkg/wire"
)

// extraction writes the artifacts of a result file below a directory. It leaves
// that by no path and through no symbolic link, which os.Root sees to.
type extraction struct {
	root    *os.Root
	force   bool
	out     io.Writer // told each path that was written
	notes   io.Writer // told what was not
	refused int
}

// extract writes the artifacts of a result file. What can not be written is told
// on notes; then, when all others are there, the error is silent.
func extract(out, notes io.Writer, in io.Reader, size int64, dir string, force bool) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &writingError{err}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &writingError{err}
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	x := &extraction{root: root, force: force, out: out, notes: notes}
	if _, err := wire.ReadExec(in, size, wire.ExecVisitor{File: x.file}); err != nil {
		return err
	}
	if x.refused > 0 {
		fmt.Fprintf(notes, "%s not written\n", count(x.refused, "artifact"))
		return program.ErrSilent
	}
	return nil
}

// file writes one artifact. Its error ends the extraction.
func (x *extraction) file(name string, data io.Reader, _ int64) error {
	out, err := x.create(name)
	if err != nil {
		x.refused++
		_, err = fmt.Fprintf(x.notes, "not written: %v\n", err)
		return err
	}
	to := marking{out, name}
	_, err = io.Copy(to, data)
	if err = cmp.Or(err, to.mark(out.Close())); err != nil {
		return errors.Join(err, x.root.Remove(name))
	}
	_, err = fmt.Fprintln(x.out, quoted(name))
	return err
}

// create makes a file that was not there before.
func (x *extraction) create(name string) (*os.File, error) {
	if err := job.CheckPath(name); err != nil {
		return nil, err
	}
	if err := x.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return nil, naming(name, err)
	}
	if x.force {
		if info, err := x.root.Lstat(name); err == nil && !info.IsDir() {
			if err := x.root.Remove(name); err != nil {
				return nil, naming(name, err)
			}
		}
	}
	file, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) && !x.force {
		return nil, fmt.Errorf("artifact %q: there is a file of that name: use --force to replace it", name)
	}
	return file, naming(name, err)
}

// naming tells with which artifact something went wrong; the path in what the
// system says may be anything.
func naming(name string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if err != nil {
		err = fmt.Errorf("artifact %q: %w", name, err)
	}
	return err
}
