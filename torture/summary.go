package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// summary tells what the round was.
func (r *round) summary() string {
	builds, hurt := 0, 0
	for _, n := range r.results {
		builds += n
	}
	for _, f := range faults {
		hurt += r.done[f.what]
	}
	minutes := r.takes.Minutes()
	return fmt.Sprintf("%d builds (%.0f a minute), %d faults (%.0f a minute), at rest after %v\n  steps: %s\n  results: %s",
		builds, float64(builds)/minutes, hurt, float64(hurt)/minutes, r.quiet.Round(100*time.Millisecond), table(r.done), table(r.results))
}

// table is counts, the largest first.
func table(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var cells []string
	for _, name := range names {
		cells = append(cells, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(cells, ", ")
}
