package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"builder/pkg/job"
)

// change is how something of one build is in another one.
type change string

const (
	changed change = "changed"
	added   change = "added"   // the second has it only
	removed change = "removed" // the first has it only
)

// difference is a thing that two builds do not have alike; what one lacks is the
// zero value.
type difference[T any] struct {
	name   string
	change change
	a, b   T
}

// differences compares what two builds have by name: what differs, by name, and
// how many are alike.
func differences[T comparable](a, b map[string]T) (different []difference[T], alike int) {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		other, both := b[name]
		switch {
		case !both:
			different = append(different, difference[T]{name, removed, a[name], other})
		case a[name] != other:
			different = append(different, difference[T]{name, changed, a[name], other})
		default:
			alike++
		}
	}
	for name, value := range b {
		if _, both := a[name]; !both {
			var none T
			different = append(different, difference[T]{name, added, none, value})
		}
	}
	slices.SortStableFunc(different, func(x, y difference[T]) int { return strings.Compare(x.name, y.name) })
	return different, alike
}

// contents are a build's artifacts by their paths.
func contents(b job.Build) map[string]job.Content {
	all := make(map[string]job.Content, len(b.Artifacts))
	for _, a := range b.Artifacts {
		all[a.Path] = a.Content
	}
	return all
}

// The artifacts that are compared by what is in them, as builder-web does.
var inputs = []struct {
	path  string
	parse func(text string) map[string]string
}{
	{job.OpamSwitch, parseSwitch},
	{job.BuildEnvironment, parseEnvironment},
	{job.SystemPackages, parsePackages},
}

// installed is the field of an opam switch export that lists all packages.
var installed = regexp.MustCompile(`(?m)^installed:\s*\[([^\]]*)\]`)

// parseSwitch reads the packages that an opam switch export says are installed,
// with their versions.
func parseSwitch(text string) map[string]string {
	packages := map[string]string{}
	list := installed.FindStringSubmatch(text)
	if list == nil {
		return packages
	}
	for i, part := range strings.Split(list[1], `"`) {
		if i%2 == 1 { // between quotes
			name, version, _ := strings.Cut(part, ".")
			packages[name] = version
		}
	}
	return packages
}

// parseEnvironment reads lines of NAME=VALUE.
func parseEnvironment(text string) map[string]string {
	return parseLines(text, func(line string) (string, string) {
		name, value, _ := strings.Cut(line, "=")
		return name, value
	})
}

// parsePackages reads lines of NAME=VERSION, as Debian's are, or NAME-VERSION.
func parsePackages(text string) map[string]string {
	return parseLines(text, func(line string) (string, string) {
		name, version, ok := strings.Cut(line, "=")
		if !ok {
			name, version, _ = strings.Cut(line, "-")
		}
		return name, version
	})
}

func parseLines(text string, split func(string) (string, string)) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			name, value := split(line)
			all[name] = value
		}
	}
	return all
}
