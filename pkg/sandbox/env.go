package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// defaultPath is used where there is no other.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is all that a script gets to see: nothing else of the worker's own
// environment, which may hold secrets, reaches it.
func environment(spec Spec, home, tmp, out string) ([]string, error) {
	var base []string
	if path := os.Getenv("PATH"); path != "" {
		base = []string{"PATH=" + path}
	}
	return Environment(spec, base, home, tmp, out)
}

// Environment is all that a script gets to see: base, such as an image's, then
// Spec.Env, then what is ours, each overriding those before.
func Environment(spec Spec, base []string, home, tmp, out string) ([]string, error) {
	env := append([]string{"PATH=" + defaultPath, "LANG=C.UTF-8", "TZ=UTC"}, base...)
	for _, variable := range spec.Env {
		key, _, found := strings.Cut(variable, "=")
		if !found || key == "" || strings.Contains(variable, "\x00") {
			return nil, fmt.Errorf("passing on variable %q: it must be KEY=value, without NUL", key)
		}
		env = append(env, variable)
	}
	env = append(env,
		"HOME="+home,
		"TMPDIR="+tmp,
		"BUILDER_JOB="+spec.Job,
		"BUILDER_BUILD="+spec.Build,
		"BUILDER_PLATFORM="+spec.Platform,
		"BUILDER_OUTPUT="+out,
	)
	return lastOfEach(env), nil
}

// lastOfEach keeps the last value of each variable: which one of two a program
// sees differs from program to program.
func lastOfEach(env []string) []string {
	seen := make(map[string]bool, len(env))
	var kept []string
	for _, variable := range slices.Backward(env) {
		key, _, _ := strings.Cut(variable, "=")
		if !seen[key] {
			seen[key] = true
			kept = append(kept, variable)
		}
	}
	slices.Reverse(kept)
	return kept
}
