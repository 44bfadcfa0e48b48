package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"builder/pkg/console"
	"builder/pkg/job"

	"golang.org/x/sync/errgroup"
)

// Commit ends the build: it stores b with the artifacts and the notes of the
// draft (after those in b), closes the console and returns what was stored. All
// of it is durable then, and found by all methods of the Store. b must have the
// job and the id that the draft was begun with.
//
// After an error there is no record, unless the error came from the very last
// sync. The draft is still open: Commit may be called again, which helps when the
// disk was full, but not when a sync failed: then the error comes again, since
// nobody knows what is on disk, and what remains is Abandon.
func (d *Draft) Commit(b job.Build) (job.Build, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stored, err := d.commit(b)
	if err != nil {
		return job.Build{}, fmt.Errorf("committing build %v: %w", d.place.id, err)
	}
	d.store.index.add(rowOf(d.place, stored))
	return stored, nil
}

func (d *Draft) commit(b job.Build) (job.Build, error) {
	switch {
	case d.ended:
		return job.Build{}, os.ErrClosed
	case b.UUID != d.place.id || b.Job != d.job:
		return job.Build{}, fmt.Errorf("it is build %v of %q", b.UUID, b.Job)
	}
	if err := d.console.Flush(); err != nil {
		return job.Build{}, err
	}
	b.Artifacts = slices.Clone(d.artifacts)
	b.Notes = d.allNotes(b)
	data, err := record{b, d.console.Lines(), d.console.Size()}.encode()
	if err != nil {
		return job.Build{}, err
	}
	name := filepath.Join(d.dir, recordFile)
	if err := d.sync(name+".tmp", data); err != nil {
		d.store.fsys.Remove(name + ".tmp") //nolint:errcheck // the first error is the one to report; a leftover is overwritten
		return job.Build{}, err
	}
	// Everything that the record names is durable: now it may get its name. From
	// here on, whatever is returned, it may have it.
	d.renamed = true
	if err := d.store.fsys.Rename(name+".tmp", name); err != nil {
		return job.Build{}, err
	}
	if err := d.store.fsys.SyncDir(d.dir); err != nil {
		return job.Build{}, err
	}
	d.ended = true
	if err := d.console.Close(); err != nil {
		// All of it is on disk: there is nothing that the caller could do.
		d.store.log.Warn().Err(err).Stringer("build", b.UUID).Msg("closing a committed console")
	}
	return b, nil
}

// sync makes everything durable: console, contents, the names of both and of the
// build's directory, and the record under its temporary name. It is one barrier:
// all syncs that need not wait for another run at once.
func (d *Draft) sync(recordName string, data []byte) error {
	var group errgroup.Group
	group.Go(func() error { return d.console.Sync() })
	group.Go(func() error { return d.store.dirs.sync(d.pending) })
	group.Go(d.syncContents)
	group.Go(func() error {
		f, err := d.store.fsys.OpenFile(recordName, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		in := incoming{file: f}
		if _, err := f.Write(data); err != nil {
			f.Close()
			return err
		}
		return in.sync()
	})
	return group.Wait()
}

// syncContents moves the contents to their places once their data is durable.
func (d *Draft) syncContents() error {
	if err := d.syncs.Wait(); err != nil {
		return fmt.Errorf("syncing artifacts: %w", err)
	}
	pending := pendingSyncs{}
	for _, in := range d.contents {
		if err := d.store.keep(in, pending); err != nil {
			return err
		}
	}
	return d.store.dirs.sync(pending)
}

// Abandon ends the build without a record, and closes the console, which is kept
// as far as it goes. After Commit has succeeded it does nothing, so it may be
// deferred.
func (d *Draft) Abandon() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil
	}
	d.ended = true
	d.syncs.Wait() //nolint:errcheck // nobody wants to know any more what is on disk
	for _, in := range d.contents {
		d.store.discard(in)
	}
	err := d.console.Close()
	if d.renamed {
		err = errors.Join(err, d.withdraw())
	}
	if err != nil {
		return fmt.Errorf("abandoning build %v: %w", d.place.id, err)
	}
	return nil
}

// Discard ends the build like Abandon, and removes what is there of it.
func (d *Draft) Discard() error {
	if err := d.Abandon(); err != nil {
		return err
	}
	for _, name := range []string{console.TextFile, console.IndexFile, "."} {
		if err := d.store.fsys.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discarding build %v: %w", d.place.id, err)
		}
	}
	return nil
}

// withdraw takes back a record that Commit has named but not acknowledged.
func (d *Draft) withdraw() error {
	err := d.store.fsys.Remove(filepath.Join(d.dir, recordFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.store.fsys.SyncDir(d.dir)
}
