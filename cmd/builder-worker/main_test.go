package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/program"
)

// TestRefused: wrong command lines, with what is told of them and the status.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   []string
		status int
		told   string
	}{
		"no platform":   {nil, 2, "name one platform"},
		"two platforms": {[]string{"a", "b"}, 2, "name one platform"},
		"flag":          {[]string{"a", "--nosuch"}, 2, "unknown flag"},
		"isolation":     {[]string{"a", "--isolation", "glass"}, 2, `isolation "glass" is unknown`},
		"protocol":      {[]string{"a", "--protocol", "7"}, 2, "protocol 7 is unknown"},
		"variable":      {[]string{"a", "--env", "NO_SUCH_VARIABLE"}, 2, "NO_SUCH_VARIABLE"},
		"log level":     {[]string{"a", "--log-level", "loud"}, 2, `"loud"`},
		"directory":     {[]string{"a", "--dir", file}, 1, file},
	} {
		t.Run(name, func(t *testing.T) {
			told := capture(t, func() int {
				cmd := command()
				cmd.SetArgs(test.args)
				return program.Main(t.Context(), cmd)
			}, test.status)
			if !strings.Contains(told, test.told) {
				t.Errorf("told %q, want %q", told, test.told)
			}
		})
	}
}

// capture runs f, checks its status and returns what went to standard error.
func capture(t *testing.T, f func() int, want int) string {
	t.Helper()
	stderr := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w
	status := f()
	os.Stderr = stderr
	w.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Errorf("status %d, want %d: %s", status, want, out.String())
	}
	return out.String()
}
