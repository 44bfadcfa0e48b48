package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// Commit ends the build: it stores b with the artifacts and the notes of the
// draft (after those in b), closes the console and returns what was stored. All
// of it is durable then, and found by all methods of the Store. b must have the
// job and the id that the draft was begun with.
//
// After an error the draft is still open: Commit may be called again, which helps
// when the disk was full, but not when a sync failed: then the error comes again,
// since nobody knows what is on disk, and what remains is Abandon. Until then
// there may be a record.
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
	if n := d.offer.lacking(); n > 0 {
		return job.Build{}, fmt.Errorf("%d of the contents that were offered have not come", n)
	}
	var found notes
	b.Artifacts, found = d.offer.kept(d.artifacts, d.notes)
	b.Notes = found.all(b.Notes)
	data, err := record{b, d.console.Lines(), d.console.Size()}.encode()
	if err != nil {
		return job.Build{}, err
	}
	// A record may name contents only when they are there to stay.
	d.hold.add(b.Script)
	if err := d.syncContents(); err != nil {
		return job.Build{}, err
	}
	if d.written || d.resumed {
		// Another record may have come into the log, which would replace this one.
		if err := d.store.ahead.certain(); err != nil {
			return job.Build{}, err
		}
	}
	d.written = true // or not, whatever is returned from here on
	if err := d.keepRecord(data); err != nil {
		return job.Build{}, err
	}
	d.end()
	if err := errors.Join(d.console.Close(), d.syncs.close()); err != nil {
		// All of it is on disk: there is nothing that the caller could do.
		d.store.log.Warn().Err(err).Stringer("build", b.UUID).Msg("closing a committed build")
	}
	d.dropContents()
	return b, nil
}

// end lets go of the contents: a record names them, or nobody needs them.
func (d *Draft) end() {
	d.ended = true
	d.hold.release()
}

// keepRecord writes the record and makes it durable, and the console: by the log if
// they are small.
func (d *Draft) keepRecord(data []byte) error {
	text, index, small := d.console.Small()
	e := entry{place: d.place, record: data, text: text, index: index}
	if small && e.size() <= maxAhead {
		logged, err := d.store.ahead.commit(d.generation, e, func() error { return d.writeRecord(data, nil) })
		if logged {
			return err
		}
	}
	return d.writeRecord(data, d.syncRecord)
}

// writeRecord writes the record, and calls then with the file if that is not nil.
func (d *Draft) writeRecord(data []byte, then func(disk.File) error) error {
	f, err := d.store.fsys.OpenFile(filepath.Join(d.dir, recordFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && then != nil {
		err = then(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncRecord makes the record, the console, the names of both and that of the build's
// directory durable. All syncs run at once: a power cut may leave any part of this,
// which Recorded finds out.
func (d *Draft) syncRecord(record disk.File) error {
	var group errgroup.Group
	group.Go(d.console.Sync)
	group.Go(func() error { return d.store.dirs.sync(d.pending) })
	group.Go(func() error { return record.Sync() })
	return group.Wait()
}

// syncContents moves the contents to their places once their data is durable.
func (d *Draft) syncContents() error {
	if err := d.syncs.sync(); err != nil {
		// What has reached the disk nobody knows, but it would be read as if it all
		// had: the next server must not find it.
		d.dropContents()
		return fmt.Errorf("syncing artifacts: %w", err)
	}
	pending := pendingSyncs{}
	for _, in := range d.received() {
		if err := d.store.keep(in, d.hold, pending); err != nil {
			return err
		}
	}
	return d.store.dirs.sync(pending)
}

// Abandon ends the build without a record, and closes the console, which is kept
// as far as it goes; contents are not. After Commit has succeeded it does nothing,
// so it may be deferred.
func (d *Draft) Abandon() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil
	}
	defer d.end()
	d.syncs.close() //nolint:errcheck // nobody wants to know any more what is on disk
	d.dropContents()
	err := d.console.Close()
	if d.written {
		err = errors.Join(err, d.withdraw())
	}
	if err != nil {
		return fmt.Errorf("abandoning build %v: %w", d.place.id, err)
	}
	return nil
}

// Suspend ends the draft as a kill of the process would, but with its console
// written: a server that goes leaves the build to the Resume of the next one,
// with what has come of the contents that were offered.
func (d *Draft) Suspend() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil
	}
	defer d.end()
	err := errors.Join(d.console.Close(), d.syncs.close(), d.offer.close())
	for _, in := range d.contents {
		d.store.discard(in)
	}
	if err != nil {
		return fmt.Errorf("suspending build %v: %w", d.place.id, err)
	}
	return nil
}

// Discard ends the build like Abandon, and removes what is there of it.
func (d *Draft) Discard() error {
	if err := d.Abandon(); err != nil {
		return err
	}
	return d.store.Discard(d.job, d.place.id)
}

// Discard removes what is there of a build that has no draft and no record, if
// anything is: beginning or resuming one may have failed halfway.
func (s *Store) Discard(jobName string, id uuid.UUID) error {
	dir := s.dir(place{ours, directoryName(jobName), id})
	for _, name := range []string{console.TextFile, console.IndexFile, "."} {
		if err := s.fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discarding build %v: %w", id, err)
		}
	}
	return nil
}

// withdraw takes back a record that Commit has written but not acknowledged.
func (d *Draft) withdraw() error {
	if err := d.store.ahead.certain(); err != nil {
		return err
	}
	err := d.store.fsys.Remove(filepath.Join(d.dir, recordFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.store.fsys.SyncDir(d.dir)
}
