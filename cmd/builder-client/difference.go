package main

import (
	"maps"
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
	sortDifferences(different)
	return different, alike
}

func sortDifferences[T any](list []difference[T]) {
	slices.SortStableFunc(list, func(x, y difference[T]) int { return strings.Compare(x.name, y.name) })
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
	path    string
	compare func(a, b string) []difference[string]
}{
	{job.OpamSwitch, compareSwitches},
	{job.BuildEnvironment, comparing(parseEnvironment)},
	{job.SystemPackages, comparing(parsePackages)},
}

// comparing compares texts by the names in them and what these have.
func comparing(parse func(text string) map[string]string) func(a, b string) []difference[string] {
	return func(a, b string) []difference[string] {
		different, _ := differences(parse(a), parse(b))
		return different
	}
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
