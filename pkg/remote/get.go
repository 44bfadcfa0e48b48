package remote

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"builder/pkg/job"
)

// Has asks whether the store has c, by its length. An error says that it could not
// be asked, or did not say.
func (s *Store) Has(ctx context.Context, c job.Content) (bool, error) {
	status, length, err := s.ask(ctx, http.MethodHead, s.address(c))
	if err == nil {
		err = &statusError{status}
		switch status {
		case http.StatusOK:
			// Apache tells no length of what is empty.
			return length == c.Size || length < 0 && c.Size == 0, nil
		case http.StatusNotFound, http.StatusGone:
			return false, nil
		}
	}
	return false, s.told(ctx, "asking for", c, err)
}

// ask makes a request that has no body and whose answer nobody reads. The length is
// negative when none is told.
func (s *Store) ask(ctx context.Context, method, address string) (status int, length int64, err error) {
	ctx, stop := context.WithTimeoutCause(ctx, s.stall, errStalled)
	defer stop()
	req, err := s.request(ctx, method, address, nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, 0, err
	}
	drain(resp)
	return resp.StatusCode, resp.ContentLength, nil
}

// maxAnswer is how much of an answer is read so that its connection can be used
// again.
const maxAnswer = 16 << 10

// drain reads and closes an answer's body.
func drain(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxAnswer) //nolint:errcheck // a connection that breaks is not used again
	resp.Body.Close()
}

// Open opens c for reading; the caller closes it. When the store has it not, the
// error is an fs.ErrNotExist. The reader gives as many octets as c has, else an
// error; whether they are those of c is for the caller to check. It ends when ctx
// does, or when it gets nothing for Options.Stall.
func (s *Store) Open(ctx context.Context, c job.Content) (io.ReadCloser, error) {
	reading, stop := context.WithCancelCause(ctx)
	r := &reader{told: func(err error) error { return s.told(reading, "reading", c, err) }, stop: stop, stall: s.stall, left: c.Size}
	r.timer = time.AfterFunc(s.stall, func() { stop(errStalled) })
	err := r.open(reading, s, c)
	r.timer.Stop()
	if err != nil {
		err = r.told(err)
		stop(nil)
		return nil, err
	}
	return r, nil
}

// reader is a content as it comes.
type reader struct {
	body  io.ReadCloser
	told  func(error) error
	stop  context.CancelCauseFunc
	stall time.Duration
	timer *time.Timer // runs while somebody waits for the store
	left  int64
}

func (r *reader) open(ctx context.Context, s *Store, c job.Content) error {
	req, err := s.request(ctx, http.MethodGet, s.address(c), nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		err = &statusError{resp.StatusCode}
	case resp.ContentLength >= 0 && resp.ContentLength != c.Size:
		err = fmt.Errorf("it has %d octets, expected %d: %w", resp.ContentLength, c.Size, fs.ErrNotExist)
	}
	if err != nil {
		drain(resp)
		return err
	}
	r.body = resp.Body
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.timer.Reset(r.stall)
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.timer.Stop()
	r.left -= int64(n)
	switch {
	case r.left == 0:
		err = nil
	case err == io.EOF: //nolint:errorlint // that of a body is never wrapped
		err = r.told(io.ErrUnexpectedEOF)
	case err != nil:
		err = r.told(err)
	}
	return n, err
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.stop(nil)
	return r.body.Close()
}
