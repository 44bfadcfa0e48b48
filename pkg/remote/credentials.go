package remote

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Environment is the variable from which programs take credentials that they are
// given no file of.
const Environment = "BUILDER_STORE_AUTH"

// Credentials are those of stores whose URL has none. The zero value has none.
type Credentials struct {
	lines []credential
}

type credential struct {
	prefix         string // of the store; "" for any
	user, password string
}

// ReadCredentials reads them from file, if that is not "", else from text, which is
// that of an environment variable. Each line is USER:PASSWORD, for every store, or
// URL USER:PASSWORD for one; the first that fits counts. Empty lines and those that
// begin with # are skipped. No error shows what a line says.
func ReadCredentials(file, text string) (Credentials, error) {
	where := "the environment's credentials for the store"
	if file != "" {
		octets, err := os.ReadFile(file)
		if err != nil {
			return Credentials{}, fmt.Errorf("reading the store's credentials: %w", err)
		}
		where, text = file, string(octets)
	}
	var all Credentials
	number := 0
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		number++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		c, err := parseCredential(line)
		if err != nil {
			return Credentials{}, fmt.Errorf("reading %s: line %d: %w", where, number, err)
		}
		all.lines = append(all.lines, c)
	}
	if file != "" && len(all.lines) == 0 {
		return Credentials{}, fmt.Errorf("reading %s: it has no line USER:PASSWORD", file)
	}
	return all, nil
}

func parseCredential(line string) (c credential, err error) {
	if raw, rest, two := strings.Cut(line, " "); two && strings.Contains(raw, "://") {
		if c.prefix, _, err = parse(raw); err != nil {
			return c, err
		}
		line = strings.TrimSpace(rest)
	}
	user, password, ok := strings.Cut(line, ":")
	if !ok || user == "" {
		return c, errors.New("it is neither USER:PASSWORD nor URL USER:PASSWORD")
	}
	c.user, c.password = user, password
	return c, nil
}

// of is who is known to the store of that prefix.
func (c Credentials) of(prefix string) (user, password string, ok bool) {
	for _, line := range c.lines {
		if line.prefix == "" || line.prefix == prefix {
			return line.user, line.password, true
		}
	}
	return "", "", false
}
