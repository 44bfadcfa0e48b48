package disktest

import (
	"io/fs"
	"syscall"

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
	return &barrier{f, dir, f.losses}, nil
}

type barrier struct {
	fs   *FS
	dir  string
	seen int // of the losses
}

// Sync makes the data of all files durable, also of those without a name, and all
// names. One that fails does to each of them what a failed sync does. Any sync that has
// failed since the barrier was opened is an error of its next Sync, too.
func (b *barrier) Sync() error {
	b.fs.mu.Lock()
	defer b.fs.mu.Unlock()
	do := b.fs.step(OpBarrier)
	evict := do.partial && b.fs.rng.IntN(2) == 0
	for _, n := range b.fs.files {
		switch {
		case do.apply:
			n.content.sync()
		case do.partial && n.content.dirty():
			n.content.failSync(evict, b.fs.picker())
			n.losses++
		}
	}
	if do.partial {
		b.fs.losses++
	}
	if do.err == nil && b.seen != b.fs.losses {
		do.err = syscall.EIO
	}
	b.seen = b.fs.losses
	switch {
	case do.apply:
		b.fs.syncNames(nil, func() bool { return true })
	case do.partial:
		b.fs.syncNames(nil, func() bool { return b.fs.rng.IntN(2) == 0 })
	}
	if do.err != nil {
		return &fs.PathError{Op: "barrier", Path: b.dir, Err: do.err}
	}
	return nil
}

func (b *barrier) Close() error { return nil }
