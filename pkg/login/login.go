package login

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// Login is a user and password. The zero value is none. It is never printed.
type Login struct {
	user, password string
	given          bool
}

// Set has a request show it, as Basic authentication.
func (l Login) Set(req *http.Request) {
	if l.given {
		req.SetBasicAuth(l.user, l.password)
	}
}

// Secrets are the forms in which a server may send the password back, or a library
// may show it.
func (l Login) Secrets() []string {
	if l.password == "" {
		return nil
	}
	_, inURL, _ := strings.Cut(url.UserPassword("", l.password).String(), ":")
	return []string{
		base64.StdEncoding.EncodeToString([]byte(l.user + ":" + l.password)),
		l.password, inURL, url.QueryEscape(l.password), url.PathEscape(l.password),
	}
}
