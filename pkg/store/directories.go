package store

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"builder/pkg/disk"

	"golang.org/x/sync/errgroup"
)

// maxSyncs is how many syncs run at the same time: a file system writes several
// that are under way at once together.
const maxSyncs = 16

// directories remembers which directories are there for good, so that one sync
// of a parent serves all builds of a job, and all contents of a prefix; and in
// which of them all files are, so that those need not be synced again.
type directories struct {
	fsys    disk.FS
	mu      sync.Mutex
	durable map[string]bool
	moved   map[string]int // how many files were moved there by this process
	synced  map[string]int // how many of them, and all older ones, are there for good
}

func newDirectories(fsys disk.FS) *directories {
	return &directories{fsys: fsys, durable: map[string]bool{}, moved: map[string]int{}, synced: map[string]int{}}
}

// moving says that a file is about to be moved to the directory name.
func (d *directories) moving(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moved[name]++
}

// settled reports whether all files in the directory name are there for good.
func (d *directories) settled(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	synced, ok := d.synced[name]
	return ok && synced == d.moved[name]
}

// make makes the directory name unless it is there. When that is not known to be
// durable it adds the parent to pending, to be synced.
func (d *directories) make(name string, pending pendingSyncs) error {
	d.mu.Lock()
	durable := d.durable[name]
	d.mu.Unlock()
	if durable {
		return nil
	}
	if err := d.fsys.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	parent := filepath.Dir(name)
	pending[parent] = append(pending[parent], name)
	return nil
}

// pendingSyncs are directories to be synced, each with those of its entries that
// are directories and are known to be durable then.
type pendingSyncs map[string][]string

// add adds the directory name.
func (p pendingSyncs) add(name string) {
	if _, ok := p[name]; !ok {
		p[name] = nil
	}
}

// sync syncs what is pending. After an error all of it has to be synced again.
func (d *directories) sync(pending pendingSyncs) error {
	moved := d.movedInto(pending)
	var group errgroup.Group
	group.SetLimit(maxSyncs)
	for name := range pending {
		group.Go(func() error { return d.fsys.SyncDir(name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, made := range pending {
		for _, name := range made {
			d.durable[name] = true
		}
	}
	for name, n := range moved {
		if d.durable[name] { // not those of single builds, which are too many
			d.synced[name] = n
		}
	}
	return nil
}

// movedInto is how many files were moved to each: a sync that begins now makes them
// durable, others that are moved meanwhile perhaps not.
func (d *directories) movedInto(pending pendingSyncs) map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	moved := make(map[string]int, len(pending))
	for name := range pending {
		moved[name] = d.moved[name]
	}
	return moved
}
