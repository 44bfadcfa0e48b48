package upload

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
)

// remote is where builds go.
type remote struct {
	url            *url.URL // without user and password
	user, password string
	authenticate   bool
	secrets        *strings.Replacer
}

// parseRemote takes a URL apart. No part of what can not be parsed is shown: it
// may be one of the password.
func parseRemote(raw string) (remote, error) {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil && strings.Contains(raw, "@") {
		return remote{}, errors.New("the upload URL is not valid: it is http[s]://[USER:PASSWORD@]HOST[:PORT]/PATH, " +
			"with % / ? # @ : in user and password written as %25 %2F %3F %23 %40 %3A")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return remote{}, errors.New("the upload URL is not valid: it begins with http:// or https:// and a host")
	}
	r := remote{url: u, secrets: strings.NewReplacer()}
	if u.User != nil {
		r.authenticate = true
		r.user = u.User.Username()
		r.password, _ = u.User.Password()
		r.secrets = hidden(r.user, r.password)
		u.User = nil
	}
	return r, checkProxy(u)
}

// hidden takes the password out of a text, in all the forms in which a remote
// may send it back, or a library may show it.
func hidden(user, password string) *strings.Replacer {
	if password == "" {
		return strings.NewReplacer()
	}
	const hidden = "xxxxx"
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	_, inURL, _ := strings.Cut(url.UserPassword("", password).String(), ":")
	return strings.NewReplacer(encoded, hidden, password, hidden, inURL, hidden,
		url.QueryEscape(password), hidden, url.PathEscape(password), hidden)
}

// shown makes one line without secrets of an error, which may have in it what the
// remote wrote.
func (r *remote) shown(err error) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, r.secrets.Replace(err.Error())))
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
func newClient() *http.Client {
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
