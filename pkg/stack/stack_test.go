package stack_test

import (
	"sync"
	"testing"

	"builder/pkg/stack"
)

// TestGrow is for what would make Grow useless: room that is not on the stack.
func TestGrow(t *testing.T) {
	if n := testing.AllocsPerRun(100, stack.Grow); n != 0 {
		t.Errorf("Grow allocates %v times, expected none", n)
	}
}

// BenchmarkGoroutine is a goroutine that calls deeply, with Grow and without.
func BenchmarkGoroutine(b *testing.B) {
	for name, begin := range map[string]func(){"grown": stack.Grow, "as it is": func() {}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var group sync.WaitGroup
				group.Go(func() {
					begin()
					descend(40)
				})
				group.Wait()
			}
		})
	}
}

// descend calls itself, with frames as large as those of the program.
//
//go:noinline
func descend(depth int) byte {
	var frame [200]byte
	if depth > 0 {
		frame[depth] = descend(depth - 1)
	}
	return frame[depth/2]
}
