package upload

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Auth has user and password for frontends, by their names.
type Auth map[string]login

// login is never printed.
type login struct{ user, password string }

// maxAuth bounds a file of passwords, in octets.
const maxAuth = 1 << 20

// ReadAuth reads a file of lines
//
//	URL USER:PASSWORD
//
// where the URL is that of a frontend, without user and password, and what follows
// the first colon behind it, to the end of the line, is the password as it is. Empty
// lines, and those that begin with #, are skipped. A file that everybody may read is
// refused. Errors name lines by their number: nothing of them is shown.
func ReadAuth(file string) (Auth, error) {
	text, err := readSecret(file)
	if err != nil {
		return nil, fmt.Errorf("reading passwords: %w", err)
	}
	auth := Auth{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		url, credentials := line, ""
		if at := strings.IndexAny(line, " \t"); at >= 0 {
			url, credentials = line[:at], line[at:]
		}
		if err := auth.Set(url, credentials); err != nil {
			return nil, fmt.Errorf("reading passwords: %s: line %d: %w", file, i+1, err)
		}
	}
	return auth, nil
}

func readSecret(file string) (string, error) {
	info, err := os.Stat(file) // opening something else might wait for ever
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", file)
	case info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("everybody may use %s (mode %04o): chmod 600 it", file, info.Mode().Perm())
	case info.Size() > maxAuth:
		return "", fmt.Errorf("%s has more than %d octets", file, maxAuth)
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

// Set has user and password, USER:PASSWORD, for the frontend of that URL. It may be
// called once for each.
func (a Auth) Set(frontend, credentials string) error {
	u, err := parseURL(frontend)
	if err != nil {
		return errors.New("it is not of the form URL USER:PASSWORD, with http:// or https:// in front")
	}
	user, password, ok := strings.Cut(strings.TrimLeft(credentials, " \t"), ":")
	name := nameOf(u)
	switch {
	case u.User != nil:
		return errors.New("the URL has a user in it: it comes behind the URL here")
	case !ok || user == "":
		return errors.New("there is no USER:PASSWORD behind the URL")
	case a[name] != (login{}):
		return fmt.Errorf("there is a password for %s already", name)
	}
	a[name] = login{user, password}
	return nil
}

// Names are those of the frontends that a knows, sorted.
func (a Auth) Names() []string { return slices.Sorted(maps.Keys(a)) }

func (a Auth) of(name string) (user, password string, ok bool) {
	l, ok := a[name]
	return l.user, l.password, ok
}

// ReadCA reads a PEM file of certificates, to be believed beside those of the system.
func ReadCA(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading certificates: %s has none in PEM", file)
	}
	return pool, nil
}
