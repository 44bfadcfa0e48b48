// Package login is what all HTTP servers have in common that we send something to: URLs
// with a user and password in them, files of passwords, and the authorities whose
// certificates are believed. It sends nothing.
//
// The invariant: no error of it shows a password, or what may be part of one.
package login

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Address is the URL of a server. The zero value is none.
type Address struct {
	// URL has no user and password.
	URL *url.URL
	own Login
}

// Parse takes http[s]://[USER:PASSWORD@]HOST[:PORT][/PATH] apart. The text of its errors
// goes on where one says which URL is meant.
func Parse(raw string) (Address, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.User == nil && strings.Contains(raw, "@"):
		return Address{}, errors.New("is not valid: it is http[s]://[USER:PASSWORD@]HOST[:PORT]/PATH, " +
			"with % / ? # @ : in user and password written as %25 %2F %3F %23 %40 %3A")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return Address{}, errors.New("is not valid: it begins with http:// or https:// and a host")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return Address{}, errors.New("is not valid: a port is 1 to 65535")
		}
	}
	// The environment is looked at now: the library's error shows the proxy's
	// address with its password.
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil {
		return Address{}, errors.New("can not be used: the proxy's address in HTTP_PROXY or HTTPS_PROXY is not a valid URL")
	}
	a := Address{URL: u}
	if u.User != nil {
		password, _ := u.User.Password()
		a.own, u.User = Login{u.User.Username(), password, true}, nil
	}
	return a, nil
}

// Origin is scheme://host[:port] in the one form by which servers are compared.
func (a Address) Origin() string {
	host := strings.ToLower(a.URL.Host)
	port := a.URL.Port()
	if port == "" || port == map[string]string{"http": "80", "https": "443"}[a.URL.Scheme] {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return a.URL.Scheme + "://" + host
}

// name is what the address is called in a [Book]: a query, and slashes at its end, make
// it no other.
func (a Address) name() string { return a.Origin() + strings.TrimRight(a.URL.EscapedPath(), "/") }
