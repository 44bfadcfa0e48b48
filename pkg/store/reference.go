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

// readResult reads a result of the reference, the SHA-256 of its artifacts only
// if hash is set.
func (s *Store) readResult(p place, hash bool) (job.Build, error) {
	r, err := s.openResult(p)
	if err != nil {
		return job.Build{}, err
	}
	defer r.file.Close()
	var artifacts []job.Artifact
	e, err := r.visit(p, wire.ExecVisitor{File: func(path string, data io.Reader, size int64) error {
		a := job.Artifact{Path: path, Content: job.Content{Size: size}}
		if hash {
			sum := sha256.New()
			if _, err := io.Copy(sum, data); err != nil {
				return err
			}
			sum.Sum(a.SHA256[:0])
		}
		artifacts = append(artifacts, a)
		return nil
	}})
	if err != nil {
		return job.Build{}, err
	}
	return job.Build{
		UUID: p.id, Try: 1, Job: e.Job.Name, Platform: e.Job.Platform, Script: job.ContentOf(e.Job.Script.Data),
		Started: e.Started, Finished: e.Finished, Result: e.Result, Artifacts: artifacts,
	}, nil
}

// openResultArtifact is OpenArtifact for a result of the reference.
func (s *Store) openResultArtifact(p place, path string) (io.ReadCloser, int64, error) {
	r, err := s.openResult(p)
	if err != nil {
		return nil, 0, err
	}
	found, size := int64(0), int64(0)
	_, err = r.visit(p, wire.ExecVisitor{File: func(name string, _ io.Reader, n int64) error {
		if name != path {
			return nil
		}
		found, size = r.offset(), n
		return errStop
	}})
	if !errors.Is(err, errStop) {
		r.file.Close()
		if err == nil {
			err = noArtifact(p.id, path)
		}
		return nil, 0, err
	}
	return section{io.NewSectionReader(r.file, found, size), r.file}, size, nil
}

// section is a part of a file that closes the file.
type section struct {
	*io.SectionReader
	io.Closer
}
