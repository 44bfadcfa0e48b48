package disktest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash cuts the power, if it is not cut yet, and returns the disk as it is
// found afterwards: all that was synced and any part of what was not. The new
// disk has no faults, its operations count from zero, and nothing on it waits
// for a sync. Of the old one, all that is left to do is to crash it again, which
// may leave something else.
func (f *FS) Crash() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
	names, length, data := f.picker(), f.picker(), f.picker()
	left := f.synced.clone()
	for _, c := range f.log {
		if len(c.waits) == 0 || names(1) == 1 {
			left.apply(c)
		}
	}
	found := &FS{rng: rand.New(rand.NewPCG(f.rng.Uint64(), f.rng.Uint64())), room: f.room}
	found.root = newDir(f.root.mode)
	found.synced = newImage(found.root)
	found.fill(left, f.root, found.root, length, data)
	return found
}

// fill copies what is in the directory from, as the image has it.
func (f *FS) fill(left image, from, to *node, length, data func(n int) int) {
	for _, name := range slices.Sorted(maps.Keys(left.names[from])) {
		old := left.names[from][name]
		n := &node{mode: old.mode}
		if old.mode.IsDir() {
			n.entries = map[string]*node{}
		} else {
			f.files = append(f.files, n)
			n.content = old.content.after(length, data)
		}
		to.entries[name] = n
		f.synced.apply(&change{node: n, to: entry{to, name}})
		f.fill(left, old, n, length, data)
	}
}

// picker returns a way to choose from n old versions and, as n, the present one:
// always the oldest, always the present one, or any. The extremes are rare when
// every choice is free, and show the most.
func (f *FS) picker() func(n int) int {
	switch f.rng.IntN(4) {
	case 0:
		return func(int) int { return 0 }
	case 1:
		return func(n int) int { return n }
	default:
		return func(n int) int { return f.rng.IntN(n + 1) }
	}
}
