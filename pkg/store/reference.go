package store

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// resultFile is the reference's name for a result.
const resultFile = "full"

// result is an open result file of the reference, and its reading position.
type result struct {
	file disk.File
	size int64
	in   *bufio.Reader
	read int64 // octets that in has taken from file
}

func (s *Store) openResult(p place) (*result, error) {
	f, err := s.fsys.OpenFile(filepath.Join(s.dir(p), resultFile), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening result: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening result: %w", err)
	}
	r := &result{file: f, size: info.Size()}
	// As large as wire's own, which then takes this one: so offset can tell where
	// the octets lie that a visitor is given.
	r.in = bufio.NewReaderSize(countingReader{f, &r.read}, 64<<10)
	return r, nil
}

type countingReader struct {
	in io.Reader
	n  *int64
}

// Read implements io.Reader.
func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	*c.n += int64(n)
	return n, err
}

// offset is where the next octet of in lies in the file.
func (r *result) offset() int64 { return r.read - int64(r.in.Buffered()) }

// visit reads the file once, from its beginning.
func (r *result) visit(p place, visitor wire.ExecVisitor) (wire.Exec, error) {
	e, err := wire.ReadExec(r.in, r.size, visitor)
	if err == nil || errors.Is(err, errStop) {
		return e, err
	}
	var input *fs.PathError // anything else is what the file holds
	if !errors.As(err, &input) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return e, fmt.Errorf("reading result %s at offset %d: %w", filepath.Join(p.job, p.id.String(), resultFile), r.offset(), err)
}

// errStop ends a visit that has found what it wants.
var errStop = errors.New("stop")

// readResult reads a result of the reference, and hashes its artifacts.
func (s *Store) readResult(p place) (job.Build, error) {
	r, err := s.openResult(p)
	if err != nil {
		return job.Build{}, err
	}
	defer r.file.Close()
	var artifacts []job.Artifact
	e, err := r.visit(p, wire.ExecVisitor{File: func(path string, data io.Reader, size int64) error {
		c, err := hashed(data, size)
		artifacts = append(artifacts, job.Artifact{Path: path, Content: c})
		return err
	}})
	if err != nil {
		return job.Build{}, err
	}
	return job.Build{
		UUID: p.id, Try: 1, Job: e.Job.Name, Platform: e.Job.Platform, Script: job.ContentOf(e.Job.Script.Data),
		Started: e.Started, Finished: e.Finished, Result: e.Result, Artifacts: artifacts,
	}, nil
}

// hashed reads data, of that size, to its end.
func hashed(data io.Reader, size int64) (job.Content, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, data); err != nil {
		return job.Content{}, err
	}
	return contentOf(sum, size), nil
}

// selectResult is Select for a result of the reference, which it reads once.
func (s *Store) selectResult(p place, wanted wishes) error {
	r, err := s.openResult(p)
	if err != nil {
		return err
	}
	defer r.file.Close()
	_, err = r.visit(p, wire.ExecVisitor{File: func(path string, data io.Reader, size int64) error {
		if !wanted.lack(path) {
			return nil
		}
		begin := r.offset()
		c, err := hashed(data, size)
		if err != nil {
			return err
		}
		wanted.grant(Selected{job.Artifact{Path: path, Content: c}, func(offset int64) (io.ReadCloser, error) {
			again, err := s.openResult(p)
			if err != nil {
				return nil, err
			}
			return section{io.NewSectionReader(again.file, begin+offset, size-offset), again.file}, nil
		}})
		if wanted.granted() {
			return errStop
		}
		return nil
	}})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// section is a part of a file that closes the file.
type section struct {
	*io.SectionReader
	io.Closer
}
