package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"builder/pkg/pace"

	"github.com/google/uuid"
)

const (
	// leastRate is the octets per second below which a try is given up in the
	// end, however steadily they flow.
	leastRate = 32 << 10
	// leastDeadline is for what does not depend on the size.
	leastDeadline = 10 * time.Minute
	// maxText is how much of a response is read, for the log.
	maxText = 4 << 10
)

var (
	errStalled  = errors.New("the remote is stuck: no octet was taken, and no answer came")
	errDeadline = errors.New("the remote is too slow: the try took too long in all")
)

// answerError is an answer that is not a good one.
type answerError struct {
	code int
	text string
}

// Error implements error.
func (e *answerError) Error() string {
	return fmt.Sprintf("the remote answered %d %s: %s", e.code, http.StatusText(e.code), e.text)
}

// contentError means that there is nothing to send. It is our fault.
type contentError struct{ err error }

// Error implements error.
func (e *contentError) Error() string { return "reading the result: " + e.err.Error() }

// Unwrap gives the cause.
func (e *contentError) Unwrap() error { return e.err }

// Open prepares the result file of a build: its size in octets, at least 1, and
// write, which writes exactly these to a writer, and returns soon after that has
// returned an error. It is called for each try, write at most once for each Open,
// and always when there was no error, so it may hold what must be closed.
type Open func(id uuid.UUID) (size int64, write func(io.Writer) error, err error)

// Sender makes the [Send] that posts builds to the frontend.
func (f *Frontend) Sender(open Open) Send {
	return func(ctx context.Context, id uuid.UUID) (int64, error) {
		size, err := f.try(ctx, open, id)
		if err != nil {
			err = f.judge(err)
		}
		return size, err
	}
}

// judge says what a failed try means for the next one, without secrets.
func (f *Frontend) judge(err error) error {
	text := f.secrets.Replace(err.Error())
	var content *contentError
	if errors.As(err, &content) {
		return &BuildError{text}
	}
	var answer *answerError
	if errors.As(err, &answer) {
		switch answer.code {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge:
			return &RefusedError{text}
		}
	}
	return errors.New(text)
}

// try makes one try; nil when the remote has the build. The size is what was to be
// sent.
func (f *Frontend) try(ctx context.Context, open Open, id uuid.UUID) (size int64, err error) {
	size, write, err := open(id)
	if err != nil {
		return 0, &contentError{err}
	}
	bounds := pace.Bounds{Stall: f.stall, Stuck: errStalled, Least: leastDeadline, Rate: leastRate, TooSlow: errDeadline}
	ctx, moved, stop := bounds.Watch(ctx, size)
	defer stop()
	body := newBody(size, write, moved)
	err = f.post(ctx, body)
	// What is wrong with the content comes first: the connection broke because of
	// it, and a good answer to something else is not one to this build.
	if wrong := body.finish(); wrong != nil {
		err = &contentError{wrong}
	}
	return size, err
}

// post sends the body and reads the answer.
func (f *Frontend) post(ctx context.Context, body *body) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = body.size
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("User-Agent", "builder-server")
	f.login.Set(req)
	resp, err := f.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if withURL := (*url.Error)(nil); errors.As(err, &withURL) {
			return withURL.Err // the log names the remote already
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusConflict {
		return nil
	}
	// What there is of the text will do.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText))
	if to := resp.Header.Get("Location"); to != "" && resp.StatusCode/100 == 3 {
		text = fmt.Appendf(nil, "redirects are not followed, give the server this upload URL if it is right: %s", to)
	}
	return &answerError{code: resp.StatusCode, text: string(text)}
}

// body is the content of a build on its way into a request: a pipe with a
// goroutine at its far end.
type body struct {
	*pipe
	size     int64
	rest     int64 // not yet read
	progress func(rest int64)
	written  chan error
}

// newBody starts the goroutine, which ends with finish. progress is called each
// time that the request has taken something.
func newBody(size int64, write func(io.Writer) error, progress func(rest int64)) *body {
	b := &body{pipe: newPipe(), size: size, rest: size, progress: progress, written: make(chan error, 1)}
	go func() {
		err := fill(b.pipe, size, write)
		b.end(err)
		b.written <- err
	}()
	return b
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.pipe.Read(p)
	b.rest -= int64(n)
	b.progress(b.rest)
	return n, err
}

// finish waits for the goroutine, and returns what was wrong with the content. A
// request that did not want all of it is nothing wrong.
func (b *body) finish() error {
	b.refuse()
	return <-b.written
}

// fill writes the content to the pipe. What it returns is the fault of the
// content, never of the reader.
func fill(pipe *pipe, size int64, write func(io.Writer) error) error {
	w := &meter{pipe: pipe, rest: size}
	err := write(w)
	switch {
	case w.refused:
		return nil
	case err != nil:
		return err
	case w.rest > 0:
		return fmt.Errorf("%d octets were announced, and %d are missing", size, w.rest)
	}
	return nil
}

// meter passes on as much as was announced.
type meter struct {
	pipe    *pipe
	rest    int64
	refused bool // by the reader
}

// Write implements io.Writer.
func (m *meter) Write(p []byte) (int, error) {
	if int64(len(p)) > m.rest {
		return 0, errors.New("it is longer than announced")
	}
	n, err := m.pipe.Write(p)
	m.rest -= int64(n)
	m.refused = err != nil
	return n, err
}
