package remote

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"builder/pkg/job"
)

var errOther = errors.New("its octets are not those that were hashed: it was changed")

// source is a content on its way into a request. Its last octets are given only
// when the hash is right: a store must not get something else under that name.
type source struct {
	progress func(left int64)
	content  job.Content

	mu     sync.Mutex // the transport may read when it has answered
	in     io.ReadCloser
	sum    hash.Hash
	left   int64
	wrong  error
	closed bool
}

// newSource takes over in. progress is called each time that something was taken.
func newSource(in io.ReadCloser, c job.Content, progress func(left int64)) *source {
	return &source{progress: progress, content: c, in: in, sum: sha256.New(), left: c.Size}
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, os.ErrClosed
	case s.wrong != nil:
		return 0, s.wrong
	case s.left == 0:
		return 0, io.EOF
	}
	n, err := s.in.Read(p[:min(int64(len(p)), s.left)])
	s.sum.Write(p[:n])
	s.left -= int64(n)
	switch {
	case s.left == 0 && [sha256.Size]byte(s.sum.Sum(nil)) != s.content.SHA256:
		s.wrong = errOther
	case s.left == 0:
		err = nil
	case errors.Is(err, io.EOF):
		s.wrong = fmt.Errorf("%d of its %d octets are missing: %w", s.left, s.content.Size, io.ErrUnexpectedEOF)
	case err != nil:
		s.wrong = err
	}
	if s.wrong != nil {
		return 0, s.wrong
	}
	s.progress(s.left)
	return n, err
}

// Close implements io.Closer.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.in.Close()
}

// finish closes s, and returns what was wrong with the content.
func (s *source) finish() error {
	err := s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != nil {
		return s.wrong
	}
	return err
}
