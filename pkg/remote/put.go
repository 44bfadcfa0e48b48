package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"builder/pkg/job"
	"builder/pkg/pace"
)

const (
	// tries is how often Put tries what may pass.
	tries = 5
	// fullTries is how often it tries when the store fails by itself: with a
	// content in its hands, it has most likely no room for it.
	fullTries = 2
	// askFrom is from which size on a store is asked first whether it takes the
	// content (Expect: 100-continue): one that refuses answers before it has read
	// all of it, and that answer is lost in a connection that breaks.
	askFrom = 64 << 10
	// atOnce is up to which size a content is read before it is sent: then it goes in
	// one write with the head of its request, where of others the head goes first.
	atOnce = 4 << 10
	// leastRate is the octets per second that a store must take at least.
	leastRate = 64 << 10
	// leastDeadline is for what does not depend on the size.
	leastDeadline = 2 * time.Minute
)

var errDeadline = errors.New("the store is too slow: the try took too long in all")

// SourceError says that a content could not be read, or is another one. It is not
// the store's fault, and nothing is there of it.
type SourceError struct{ Err error }

// Error implements error.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// RefusedError says that the store does not take this content; it may take others.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Put sees to it that the store has c: when it says that it has not, or has another
// length, the octets are sent that open gives, in constant memory. With unasked it
// is not asked first, which for a small content costs as much as to send it. sent
// reports that it was sent.
//
// What may pass (connections that break, a store that is stuck or overloaded) is
// tried again, a few times, some seconds apart. The error is a [SourceError] when
// the octets are not those of c, of which the store never gets the last then, and a
// [RefusedError] when other contents may do better; any other is one of the store as
// a whole. That all has arrived is the store's word: [Store.Has] asks again.
func (s *Store) Put(ctx context.Context, c job.Content, unasked bool, open func() (io.ReadCloser, error)) (sent bool, err error) {
	pause := s.pause
	for try := 1; ; try++ {
		there := false
		if !unasked || try > 1 { // what broke may have arrived
			there, err = s.Has(ctx, c)
		}
		if !there && err == nil {
			err = s.putOnce(ctx, c, open)
		}
		if err == nil || ctx.Err() != nil || try >= triesFor(err) {
			return !there && err == nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, err
		}
		pause *= 2
	}
}

// triesFor is how often is tried what fails in that way.
func triesFor(err error) int {
	var status *statusError
	var source *SourceError
	switch {
	case errors.As(err, &source):
		return 1
	case !errors.As(err, &status):
		return tries
	}
	switch status.code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return tries
	case http.StatusInternalServerError:
		return fullTries
	}
	return 1
}

func (s *Store) putOnce(ctx context.Context, c job.Content, open func() (io.ReadCloser, error)) error {
	err := s.send(ctx, c, open)
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusConflict {
		if err = s.makeCollections(ctx, c); err == nil {
			err = s.send(ctx, c, open)
		}
	}
	if errors.As(err, &status) && status.code == http.StatusRequestEntityTooLarge {
		return &RefusedError{err}
	}
	return err
}

// send makes one PUT.
func (s *Store) send(ctx context.Context, c job.Content, open func() (io.ReadCloser, error)) error {
	in, err := open()
	if err != nil {
		return &SourceError{err}
	}
	bounds := pace.Bounds{Stall: s.stall, Stuck: errStalled, Least: leastDeadline, Rate: leastRate, TooSlow: errDeadline}
	ctx, moved, stop := bounds.Watch(ctx, c.Size)
	defer stop()
	body := newSource(in, c, moved)
	err = s.sendBody(ctx, c, body)
	// What is wrong with the content comes first: the request broke because of it.
	if wrong := body.finish(); wrong != nil {
		return &SourceError{wrong}
	}
	if err != nil {
		return s.told(ctx, "putting", c, err)
	}
	return nil
}

func (s *Store) sendBody(ctx context.Context, c job.Content, body io.Reader) error {
	switch {
	case c.Size == 0:
		body = http.NoBody
	case c.Size <= atOnce:
		data, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := s.request(ctx, http.MethodPut, s.address(c), body)
	if err != nil {
		return err
	}
	req.ContentLength = c.Size
	req.Header.Set("Content-Type", "application/octet-stream")
	if c.Size >= askFrom {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	drain(resp)
	if resp.StatusCode/100 != 2 {
		return &statusError{resp.StatusCode}
	}
	return nil
}

// makeCollections makes the collection in which c lies, and the one above: what is
// there already stays as it is. Whether that was of use the next PUT tells.
func (s *Store) makeCollections(ctx context.Context, c job.Content) error {
	address := s.address(c)
	for _, collection := range []string{s.prefix + "/", address[:strings.LastIndexByte(address, '/')+1]} {
		if _, _, err := s.ask(ctx, "MKCOL", collection); err != nil {
			return s.told(ctx, "making the collection for", c, err)
		}
	}
	return nil
}
