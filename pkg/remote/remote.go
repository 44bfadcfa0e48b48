// Package remote is a client of HTTP stores: servers that keep contents by their
// hash, put there by workers so that large ones need not pass through the builder
// server. Any server will do that takes PUT and answers GET, and HEAD with the
// length; one that wants collections to be made first (WebDAV) gets MKCOL. It knows
// no build and no artifact, and decides nothing: who asks does.
//
//	<prefix>/<aa>/<sha256>   a content, as in the builder server's own store
//
// The invariant: what is given to a reader or a store is what was asked for, by its
// length here, by its hash where it is said; credentials are sent, and never told.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"builder/pkg/job"
)

const (
	dialTime     = 10 * time.Second
	defaultStall = 30 * time.Second
	defaultPause = time.Second
	// idle is how long a connection is kept: less than servers do, so that it is
	// not found closed when it is used.
	idle = 15 * time.Second
	// connections is how many are kept.
	connections = 16
)

// errStalled says that nothing moved for Options.Stall.
var errStalled = errors.New("the store is stuck: no octet moved")

// Options are what the URL of a store does not say.
type Options struct {
	// Credentials are for those stores whose URL has none.
	Credentials Credentials
	// CAFile holds the certificates, PEM, that are trusted in place of the
	// system's; "" for those.
	CAFile string
	// Stall is how long a request may go without an octet moving; 0 means 30 s.
	Stall time.Duration
	// Pause is the one before the second try of Put, doubled for each further one;
	// 0 means a second.
	Pause time.Duration
}

// Store is one store. Its methods are safe for concurrent use.
type Store struct {
	prefix         string
	user, password string
	authenticate   bool
	client         *http.Client
	stall, pause   time.Duration
}

// New makes a Store of a URL, http[s]://[USER:PASSWORD@]HOST[:PORT]/PREFIX. Nothing
// is sent yet. No error of it shows the URL, which may hold a password.
func New(raw string, o Options) (*Store, error) {
	prefix, user, err := parse(raw)
	if err != nil {
		return nil, err
	}
	s := &Store{prefix: prefix, stall: o.Stall, pause: o.Pause}
	if s.stall <= 0 {
		s.stall = defaultStall
	}
	if s.pause <= 0 {
		s.pause = defaultPause
	}
	if user != nil {
		s.authenticate, s.user = true, user.Username()
		s.password, _ = user.Password()
	} else {
		s.user, s.password, s.authenticate = o.Credentials.of(prefix)
	}
	roots, err := readCA(o.CAFile)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // the streams of one HTTP/2 connection share a window
	s.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTime}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   dialTime,
			ExpectContinueTimeout: time.Second,
			Protocols:             protocols,
			DisableCompression:    true,
			MaxIdleConnsPerHost:   connections,
			IdleConnTimeout:       idle,
		},
		// A store that sends somewhere else is not the one that was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// Prefix is the URL without credentials, in the one form by which stores are
// compared; a content lies below it.
func (s *Store) Prefix() string { return s.prefix }

// Close closes the connections that are not in use.
func (s *Store) Close() { s.client.CloseIdleConnections() }

// address is where c lies.
func (s *Store) address(c job.Content) string {
	name := c.String()
	return s.prefix + "/" + name[:2] + "/" + name
}

// statusError is an answer that is not a good one. Its text is the status alone:
// what else a store writes may repeat credentials.
type statusError struct{ code int }

// Error implements error.
func (e *statusError) Error() string {
	if text := http.StatusText(e.code); text != "" {
		return fmt.Sprintf("it answered %d %s", e.code, text)
	}
	return fmt.Sprintf("it answered %d", e.code)
}

// Is makes what a store has not an fs.ErrNotExist.
func (e *statusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.code == http.StatusNotFound || e.code == http.StatusGone)
}

func (s *Store) request(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "builder")
	if s.authenticate {
		req.SetBasicAuth(s.user, s.password)
	}
	return req, nil
}

// told is an error as the caller sees it: which content of which store, and why a
// request that was cancelled was.
func (s *Store) told(ctx context.Context, what string, c job.Content, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s %s: %w", what, s.address(c), withoutURL(err))
}
