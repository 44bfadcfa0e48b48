package worker_test

import (
	"testing"

	"builder/pkg/wire"
)

// BenchmarkTrivial is what a build costs that prints one line: make bench has the
// figure of server and workers together.
func BenchmarkTrivial(b *testing.B) {
	s := newScripted(b, false)
	w := work(b, s)
	c := s.accept()
	for b.Loop() {
		c.wish()
		id := c.start("#!/bin/sh\necho done\n")
		c.until(func() bool { return s.build(id).over })
		c.send(wire.Stored{UUID: id})
	}
	w.stored(b)
}
