package upload

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"builder/pkg/login"
)

// Frontend is a web frontend that takes builds by POST, as builder-web does.
type Frontend struct {
	name    string
	url     *url.URL // without user and password
	login   login.Login
	secrets *strings.Replacer
	client  *http.Client
	stall   time.Duration
}

// FrontendOptions are what may differ; the zero value is usable.
type FrontendOptions struct {
	// Logins are for URLs that have none.
	Logins login.Book
	// CAFile has the authorities, PEM, that are believed beside the system's; "" for
	// none.
	CAFile string
	// Stall is how long a try may go without an octet moving: a minute.
	Stall time.Duration

	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewFrontend makes a Frontend of the URL, which is used exactly as it is given: http
// or https, for builder-web with the path /upload. A user and password in it are
// sent as Basic authentication; octets that have a meaning in URLs are to be
// percent-encoded there. No error of a Frontend ever shows the password.
func NewFrontend(raw string, o FrontendOptions) (*Frontend, error) {
	address, err := login.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the upload URL %w", err)
	case len(raw) > maxURL:
		return nil, fmt.Errorf("the upload URL has more than %d octets", maxURL)
	}
	authorities, err := login.Authorities(o.CAFile)
	if err != nil {
		return nil, err
	}
	f := &Frontend{
		name: nameOf(address), url: address.URL, login: o.Logins.Of(address),
		client: newClient(authorities), stall: cmp.Or(o.Stall, time.Minute),
	}
	if o.dial != nil {
		transport := f.client.Transport.(*http.Transport)
		transport.Proxy, transport.DialContext = nil, o.dial
	}
	f.secrets = hidden(f.login.Secrets(), f.url.RawQuery)
	return f, nil
}

// maxURL keeps names of remotes within what the journal takes.
const maxURL = 1000

// nameOf is what a frontend is known by: scheme://host[:port]/path. It stays the same
// when the password is another, and has no secret.
func nameOf(a login.Address) string { return a.Origin() + cmp.Or(a.URL.EscapedPath(), "/") }

// Name is the URL without user, password and query: scheme://host[:port]/path.
func (f *Frontend) Name() string { return f.name }

// hidden takes the password, in all its forms, and the query of the URL out of a text.
func hidden(secrets []string, query string) *strings.Replacer {
	if query != "" {
		secrets = append(secrets, query)
	}
	var pairs []string
	for _, secret := range secrets {
		pairs = append(pairs, secret, "xxxxx")
	}
	return strings.NewReplacer(pairs...)
}

// newClient makes a client that uses each connection once: one that the remote
// has closed meanwhile can not be told from one that broke after the build had
// arrived. It is HTTP/1.1, since the streams of one HTTP/2 connection share a
// window, where a slow build would hold up the others.
func newClient(ca *x509.CertPool) *http.Client {
	dialer := &net.Dialer{Timeout: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dialer.DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &conn{Conn: c, closed: make(chan struct{})}, nil
			},
			TLSClientConfig:        &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12},
			Protocols:              protocols,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect is an answer like others: most of them turn a POST into a GET,
		// whose good response would be taken for the delivery.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// conn is a connection whose failed Write waits for the reader. A remote that
// refuses a build answers and closes without reading it all. Our next write then
// fails, and the transport would give up with "broken pipe" although the answer
// is there to be read.
type conn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

// answerGrace bounds the wait: when the write has failed, all that will ever
// come from the remote is there.
const answerGrace = 2 * time.Second

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		grace := time.NewTimer(answerGrace)
		defer grace.Stop()
		select {
		case <-c.closed: // by the transport, which has what it needs
		case <-grace.C:
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
