package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Keep implements [Place]. The place gets one more file:
//
//	enter                    sh enter [-c COMMAND]: a shell with the build's directory and environment
func (p *place) Keep() (how string, err error) {
	enter := filepath.Join(p.dir, "enter")
	how = "sh " + quote(enter)
	if err := os.Mkdir(p.output(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // Artifacts removes an empty one
		return "", fmt.Errorf("keeping place: %w", err)
	}
	env := p.env
	if env == nil { // attached again: what an earlier process wrote knows more
		if _, err := os.Lstat(enter); err == nil {
			return how, nil
		}
		if env, err = environment(Spec{}, p.home(), p.temp(), p.output()); err != nil {
			return "", fmt.Errorf("keeping place: %w", err)
		}
	}
	if err := os.Remove(enter); err != nil && !errors.Is(err, fs.ErrNotExist) { // the build may have made it
		return "", fmt.Errorf("keeping place: %w", err)
	}
	if err := os.WriteFile(enter, entrance(p.output(), env), 0o600); err != nil {
		return "", fmt.Errorf("keeping place: %w", err)
	}
	return how, nil
}

// entrance is a script that starts a shell as a build's script was started.
func entrance(dir string, env []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "cd %s && exec env -i", quote(dir))
	for _, variable := range env {
		b.WriteString(" " + quote(variable))
	}
	b.WriteString(` "${SHELL:-/bin/sh}" "$@"` + "\n")
	return []byte(b.String())
}

// quote makes one word of the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
