package remote

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"builder/pkg/login"
)

// maxPrefix is the longest URL of a store, in octets: each artifact of a record
// names it.
const maxPrefix = 500

// parse takes the URL of a store apart, and returns it without credentials, in the one
// form by which stores are compared.
func parse(raw string) (a login.Address, prefix string, err error) {
	if a, err = login.Parse(raw); err != nil {
		return a, "", fmt.Errorf("the URL of the store %w", err)
	}
	u := a.URL
	switch {
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return a, "", errors.New("the URL of the store is not valid: contents lie below it, so it can have no ? and no #")
	case u.Path != "" && path.Clean(u.Path) != strings.TrimRight(u.Path, "/") && strings.Trim(u.Path, "/") != "":
		return a, "", errors.New("the URL of the store is not valid: its path has an empty, . or .. element")
	case len(raw) > maxPrefix:
		return a, "", fmt.Errorf("the URL of the store is longer than %d octets", maxPrefix)
	}
	return a, a.Origin() + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// withoutURL takes off what names the method and the URL again.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}
