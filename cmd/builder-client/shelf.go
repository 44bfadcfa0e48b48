package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"builder/pkg/client"
	"builder/pkg/job"
)

// shelf is the directory that artifacts are downloaded into. It leaves that by no
// path and through no symbolic link, which os.Root sees to.
type shelf struct {
	root  *os.Root
	force bool
	taken map[string]bool // paths of this build: a server may say one twice
}

func openShelf(dir string, force bool) (*shelf, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &shelf{root: root, force: force, taken: map[string]bool{}}, nil
}

// look reports whether an artifact is there already. It is an error if it may not
// be put there.
func (s *shelf) look(a job.Artifact) (there bool, err error) {
	if err := job.CheckPath(a.Path); err != nil {
		return false, err
	}
	if s.taken[a.Path] {
		return false, fmt.Errorf("artifact %q: the build has it twice", a.Path)
	}
	s.taken[a.Path] = true
	info, err := s.root.Lstat(a.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, naming(a.Path, err)
	case info.IsDir():
		return false, fmt.Errorf("artifact %q: there is a directory of that name", a.Path)
	}
	if info.Mode().IsRegular() && info.Size() == a.Size {
		if there, err = s.equal(a); there || err != nil {
			return there, naming(a.Path, err)
		}
	}
	if !s.force {
		return false, fmt.Errorf("artifact %q: there is another file of that name: use --force to replace it", a.Path)
	}
	return false, nil
}

// equal reports whether a file has the content of an artifact.
func (s *shelf) equal(a job.Artifact) (bool, error) {
	file, err := s.root.Open(a.Path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return false, err
	}
	return bytes.Equal(sum.Sum(nil), a.SHA256[:]), nil
}

// defaultMode is that of files whose own is not known.
const defaultMode = 0o644

// begin opens the file that an artifact has until it is verified: with what is in
// it from an earlier time.
func (s *shelf) begin(a job.Artifact, p *progress) (client.Partial, error) {
	if err := s.root.MkdirAll(path.Dir(a.Path), 0o755); err != nil {
		return nil, naming(a.Path, err)
	}
	name := partName(a)
	if info, err := s.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("artifact %q: %q is no regular file", a.Path, name)
	}
	mode := a.Mode.Perm()
	if mode == 0 {
		mode = defaultMode
	}
	file, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE, mode|0o600)
	if err != nil {
		return nil, naming(a.Path, err)
	}
	return &partFile{file: file, mode: mode, progress: p}, nil
}

// partName is the name of the file that an artifact has until it is verified. The
// hash in it keeps what is of another build apart.
func partName(a job.Artifact) string {
	const longest = 200 // octets, well below what a file's name may have
	dir, base := path.Split(a.Path)
	return dir + "." + base[:min(longest, len(base))] + "." + hex.EncodeToString(a.SHA256[:8]) + ".part"
}

// end gives a verified artifact its name, and removes one that can not become one.
func (s *shelf) end(a job.Artifact, to client.Partial, failed error) error {
	if to == nil {
		return failed
	}
	file := to.(*partFile)
	if failed == nil {
		failed = file.setMode()
	}
	if err := file.file.Close(); failed == nil {
		failed = err
	}
	if failed == nil && !s.force {
		if _, err := s.root.Lstat(a.Path); err == nil {
			failed = errors.New("there is a file of that name now: use --force to replace it")
		}
	}
	if failed == nil {
		failed = s.root.Rename(partName(a), a.Path)
	}
	if errors.Is(failed, client.ErrMismatch) {
		failed = errors.Join(failed, s.root.Remove(partName(a)))
	}
	return naming(a.Path, failed)
}

// partFile is the file of an artifact that is not complete.
type partFile struct {
	file     *os.File
	mode     fs.FileMode
	size     int64
	progress *progress
}

// Read implements client.Partial.
func (p *partFile) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	p.size += int64(n)
	p.progress.found(int64(n))
	return n, err
}

// Write implements client.Partial.
func (p *partFile) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.size += int64(n)
	p.progress.add(int64(n))
	return n, err
}

// Restart implements client.Partial.
func (p *partFile) Restart() error {
	p.progress.found(-p.size)
	p.size = 0
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return p.file.Truncate(0)
}

// setMode gives the file the mode of its artifact, as far as the process's umask,
// which it was made with, lets it.
func (p *partFile) setMode() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	return p.file.Chmod(info.Mode().Perm() & p.mode)
}
