package upload

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Frontend is a web frontend that takes builds by POST, as builder-web does.
type Frontend struct {
	name           string
	url            *url.URL // without user and password
	user, password string
	authenticate   bool
	secrets        *strings.Replacer
	client         *http.Client
	stall          time.Duration
}

// FrontendOptions are what may differ; the zero value is usable.
type FrontendOptions struct {
	// Auth has user and password for URLs that have none.
	Auth Auth
	// CA are the issuers of certificates that are believed; nil means those of the
	// system.
	CA *x509.CertPool
	// Stall is how long a try may go without an octet moving: a minute.
	Stall time.Duration

	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewFrontend makes a Frontend of the URL, which is used exactly as it is given: http
// or https, for builder-web with the path /upload. A user and password in it are
// sent as Basic authentication; octets that have a meaning in URLs are to be
// percent-encoded there. No error of a Frontend ever shows the password.
func NewFrontend(raw string, o FrontendOptions) (*Frontend, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	f := &Frontend{
		name: nameOf(u), url: u, stall: cmp.Or(o.Stall, time.Minute),
		client: newClient(o.CA),
	}
	if o.dial != nil {
		transport := f.client.Transport.(*http.Transport)
		transport.Proxy, transport.DialContext = nil, o.dial
	}
	if u.User != nil {
		f.authenticate = true
		f.user = u.User.Username()
		f.password, _ = u.User.Password()
		u.User = nil
	} else {
		f.user, f.password, f.authenticate = o.Auth.of(f.name)
	}
	f.secrets = hidden(f.user, f.password, u.RawQuery)
	return f, checkProxy(u)
}

// parseURL takes a URL apart. No part of what can not be parsed is shown: it may be
// one of the password.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.User == nil && strings.Contains(raw, "@"):
		return nil, errors.New("the upload URL is not valid: it is http[s]://[USER:PASSWORD@]HOST[:PORT]/PATH, " +
			"with % / ? # @ : in user and password written as %25 %2F %3F %23 %40 %3A")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("the upload URL is not valid: it begins with http:// or https:// and a host")
	case len(raw) > maxURL:
		return nil, fmt.Errorf("the upload URL has more than %d octets", maxURL)
	}
	return u, nil
}

// maxURL keeps names of remotes within what the journal takes.
const maxURL = 1000

// nameOf is what a frontend is known by: scheme://host[:port]/path. It stays the same
// when the password is another, and has no secret.
func nameOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]; strings.HasSuffix(host, port) {
		host = strings.TrimSuffix(host, port)
	}
	return u.Scheme + "://" + host + cmp.Or(u.EscapedPath(), "/")
}

// Name is the URL without user, password and query: scheme://host[:port]/path.
func (f *Frontend) Name() string { return f.name }

// hidden takes the password, and the query of the URL, out of a text, in all the forms
// in which a remote may send it back, or a library may show it.
func hidden(user, password, query string) *strings.Replacer {
	const hidden = "xxxxx"
	var pairs []string
	if password != "" {
		encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		_, inURL, _ := strings.Cut(url.UserPassword("", password).String(), ":")
		pairs = append(pairs, encoded, hidden, password, hidden, inURL, hidden,
			url.QueryEscape(password), hidden, url.PathEscape(password), hidden)
	}
	if query != "" {
		pairs = append(pairs, query, hidden)
	}
	return strings.NewReplacer(pairs...)
}

// checkProxy looks at the environment now, since the library's error shows the
// proxy's address with its password.
func checkProxy(u *url.URL) error {
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil {
		return errors.New("the proxy's address in HTTP_PROXY or HTTPS_PROXY is not a valid URL")
	}
	return nil
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
