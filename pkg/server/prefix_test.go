package server_test

import (
	"strings"
	"testing"

	"builder/pkg/wire"
)

// TestPrefixes: a build that runs is found by all that its ended one is found by.
func TestPrefixes(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID.String()
	digits := strings.ReplaceAll(id, "-", "")
	typed := []string{id, digits, strings.ToUpper(id[:20]), digits[:12], id[:9], digits[:4]}
	for _, what := range typed {
		r.watch(wire.Watch{What: what}).expect(t, "begin 1")
	}
	r.cancel(digits[:12])
	w.receive(wire.KindStop)
	w.Close()
	r.ended("one", 1)
	for _, what := range typed {
		r.watch(wire.Watch{What: what}).expect(t, "begin 1", "final cancelled: because")
	}
}
