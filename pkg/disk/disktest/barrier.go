package disktest

import (
	"io/fs"

	"builder/pkg/disk"
)

// OpenBarrier implements [disk.FS].
func (f *FS) OpenBarrier(dir string) (disk.Barrier, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpOpen)
	_, err := f.existing(dir)
	if do.err != nil {
		err = do.err
	}
	if err != nil {
		return nil, &fs.PathError{Op: "barrier", Path: dir, Err: err}
	}
	return &barrier{f, dir}, nil
}

type barrier struct {
	fs  *FS
	dir string
}

// Sync makes the data of all files durable, also of those without a name. One
// that fails does to each of them what a failed sync does.
func (b *barrier) Sync() error {
	b.fs.mu.Lock()
	defer b.fs.mu.Unlock()
	do := b.fs.step(OpBarrier)
	evict := do.partial && b.fs.rng.IntN(2) == 0
	for _, n := range b.fs.files {
		switch {
		case do.apply:
			n.content.sync()
		case do.partial:
			n.content.failSync(evict, b.fs.picker())
		}
	}
	if do.err != nil {
		return &fs.PathError{Op: "barrier", Path: b.dir, Err: do.err}
	}
	return nil
}

func (b *barrier) Close() error { return nil }
