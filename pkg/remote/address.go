package remote

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
)

// maxPrefix is the longest URL of a store, in octets: each artifact of a record
// names it.
const maxPrefix = 500

// parse takes the URL of a store apart. No part of what can not be parsed is shown:
// it may be one of the password.
func parse(raw string) (prefix string, user *url.Userinfo, err error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.User == nil && strings.Contains(raw, "@"):
		return "", nil, errors.New("the URL of the store is not valid: it is http[s]://[USER:PASSWORD@]HOST[:PORT]/PREFIX, " +
			"with % / ? # @ : in user and password written as %25 %2F %3F %23 %40 %3A")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return "", nil, errors.New("the URL of the store is not valid: it begins with http:// or https:// and a host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return "", nil, errors.New("the URL of the store is not valid: contents lie below it, so it can have no ? and no #")
	case u.Path != "" && path.Clean(u.Path) != strings.TrimRight(u.Path, "/") && strings.Trim(u.Path, "/") != "":
		return "", nil, errors.New("the URL of the store is not valid: its path has an empty, . or .. element")
	case len(raw) > maxPrefix:
		return "", nil, fmt.Errorf("the URL of the store is longer than %d octets", maxPrefix)
	}
	// The environment is looked at now: the library's error shows the proxy's
	// address with its password.
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil {
		return "", nil, errors.New("the proxy's address in HTTP_PROXY or HTTPS_PROXY is not a valid URL")
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/"), u.User, nil
}

// readCA reads the certificates that are trusted; nil are the system's.
func readCA(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the store's certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the store's certificates: %s has none (PEM, BEGIN CERTIFICATE)", file)
	}
	return pool, nil
}

// withoutURL takes off what names the method and the URL again.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}
