package login

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Book has logins by the URLs that they are for. The zero value has none.
//
// It is read from lines
//
//	URL USER:PASSWORD
//	USER:PASSWORD
//
// the second for every URL that has no line of its own. What follows the first colon
// of USER:PASSWORD, to the end of the line, is the password as it is. Empty lines, and
// those that begin with #, are skipped.
type Book struct {
	logins map[string]Login // by the name of the address; "" is any
}

// maxBook bounds a file of passwords, in octets.
const maxBook = 1 << 20

// Load reads a file, or, when that is "", the environment variable of that name, which
// is taken out of the environment in any case: programs that are started inherit that.
// A file that everybody may use is refused. Errors name lines by their number.
func Load(file, variable string) (Book, error) {
	text := os.Getenv(variable)
	if err := os.Unsetenv(variable); err != nil {
		return Book{}, err
	}
	where := variable
	if file != "" {
		var err error
		if text, err = readSecret(file); err != nil {
			return Book{}, fmt.Errorf("reading passwords: %w", err)
		}
		where = file
	}
	b, err := Parsed(text)
	if err == nil && file != "" && len(b.logins) == 0 {
		err = errors.New("there is no line USER:PASSWORD in it")
	}
	if err != nil {
		return Book{}, fmt.Errorf("reading passwords: %s: %w", where, err)
	}
	return b, nil
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
	case info.Size() > maxBook:
		return "", fmt.Errorf("%s has more than %d octets", file, maxBook)
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

// Parsed is the Book of these lines.
func Parsed(text string) (Book, error) {
	b := Book{logins: map[string]Login{}}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := b.add(line); err != nil {
			return Book{}, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return b, nil
}

func (b Book) add(line string) error {
	name := ""
	if at := strings.IndexAny(line, " \t"); strings.Contains(line[:max(at, 0)], "://") {
		a, err := Parse(line[:at])
		switch {
		case err != nil:
			return fmt.Errorf("the URL %w", err)
		case a.own.given:
			return errors.New("the URL has a user in it: it comes behind the URL here")
		}
		name, line = a.name(), strings.TrimLeft(line[at:], " \t")
	}
	user, password, ok := strings.Cut(line, ":")
	switch {
	case !ok || user == "" || strings.HasPrefix(user, "http") && strings.HasPrefix(password, "//"):
		return errors.New("there is no USER:PASSWORD, alone or behind a URL")
	case b.logins[name].given && name == "":
		return errors.New("there is a line without a URL already")
	case b.logins[name].given:
		return fmt.Errorf("there is a line for %s already", name)
	}
	b.logins[name] = Login{user, password, true}
	return nil
}

// Of is the login for an address: the one in its URL, else that of the Book.
func (b Book) Of(a Address) Login {
	if a.own.given {
		return a.own
	}
	if l := b.logins[a.name()]; l.given {
		return l
	}
	return b.logins[""]
}

// Unused are the URLs that have a line of their own and are none of these, sorted.
func (b Book) Unused(urls []string) []string {
	unused := maps.Clone(b.logins)
	delete(unused, "")
	for _, raw := range urls {
		if a, err := Parse(raw); err == nil {
			delete(unused, a.name())
		}
	}
	return slices.Sorted(maps.Keys(unused))
}
