package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"builder/pkg/job"

	"github.com/google/uuid"
)

const (
	// batchRows is how many new rows are written to the index at once.
	batchRows = 1000
	// batchArtifacts is how many of their artifacts are held until then.
	batchArtifacts = 1 << 20
)

// update brings the index up to date with what lies in the directory. Names are
// compared; only what the index lacks is read, since a record never changes.
// Records that were damaged are read again: somebody may have mended them; and
// those whose artifacts were not all written. Those of unfinished builds are not
// read at all.
func (s *Store) update(unfinished func(uuid.UUID) bool) error {
	known, err := s.index.places()
	if err != nil {
		return err
	}
	u := updater{store: s, unfinished: unfinished, known: known, seen: map[uuid.UUID]place{}}
	if err := u.ours(); err != nil {
		return fmt.Errorf("updating index: %w", err)
	}
	s.unrecorded = u.unrecorded
	if err := u.theirs(); err != nil {
		return fmt.Errorf("updating index: %w", err)
	}
	var gone []uuid.UUID
	for id := range known {
		if _, ok := u.seen[id]; !ok {
			gone = append(gone, id)
		}
	}
	if err := s.index.remove(gone); err != nil {
		return fmt.Errorf("updating index: %w", err)
	}
	if err := s.index.flush(); err != nil {
		return err
	}
	if len(gone) > 0 {
		if err := s.index.sweep(); err != nil {
			return fmt.Errorf("updating index: %w", err)
		}
	}
	if u.added > 0 || len(gone) > 0 {
		s.log.Info().Int("added", u.added).Int("removed", len(gone)).Msg("index updated")
	}
	return nil
}

// places returns where all builds lie that need not be read again.
func (x *index) places() (map[uuid.UUID]place, error) {
	known := map[uuid.UUID]place{}
	directories := map[string]string{} // one string for all builds of a job
	err := x.query(func(scan func(...any) error) error {
		var (
			id, directory []byte
			p             place
			again         bool
		)
		if err := scan(&id, &p.origin, &directory, &again); err != nil {
			return err
		}
		name, ok := directories[string(directory)]
		if !ok {
			name = string(directory)
			directories[name] = name
		}
		p.job = name
		copy(p.id[:], id)
		if again {
			p.origin = 0 // as if it were somewhere else: read it again
		}
		known[p.id] = p
		return nil
	}, "SELECT uuid, origin, directory, damaged OR NOT whole FROM builds")
	return known, err
}

type updater struct {
	store      *Store
	unfinished func(uuid.UUID) bool
	known      map[uuid.UUID]place
	seen       map[uuid.UUID]place
	added      int
	artifacts  int // of what was added, not written yet
	// unrecorded are our builds without a record.
	unrecorded []place
}

// ours visits our builds.
func (u *updater) ours() error {
	jobs, err := u.store.fsys.ReadDir(u.store.builds())
	if err != nil {
		return err
	}
	for _, entry := range jobs {
		if !entry.IsDir() {
			continue
		}
		builds, err := u.store.fsys.ReadDir(filepath.Join(u.store.builds(), entry.Name()))
		if err != nil {
			return err
		}
		if err := u.job(ours, entry.Name(), builds); err != nil {
			return err
		}
	}
	return nil
}

// theirs visits the reference's results. It made no difference between a job's
// directory and anything else, so every directory is looked at, and one that may
// not be read (lost+found) is passed over.
func (u *updater) theirs() error {
	entries, err := u.store.fsys.ReadDir(u.store.root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		name := filepath.Join(u.store.root, entry.Name())
		builds, err := u.store.fsys.ReadDir(name)
		if err != nil {
			u.store.log.Warn().Err(err).Msg("passing over a directory")
			continue
		}
		if err := u.job(theirs, entry.Name(), builds); err != nil {
			return err
		}
	}
	return nil
}

// job visits the builds in one directory.
func (u *updater) job(o origin, directory string, builds []fs.DirEntry) error {
	for _, entry := range builds {
		id, err := uuid.Parse(entry.Name())
		if err != nil || id.String() != entry.Name() || !entry.IsDir() {
			continue
		}
		if o == ours && u.unfinished(id) {
			continue
		}
		p := place{o, directory, id}
		if other, ok := u.seen[id]; ok {
			u.store.log.Warn().Str("kept", u.store.dir(other)).Str("ignored", u.store.dir(p)).Msg("build is there twice")
			continue
		}
		if u.known[id] == p {
			u.seen[id] = p
			continue
		}
		if err := u.read(p); err != nil {
			return err
		}
	}
	return nil
}

// read adds a build that the index lacks. One without a record did not end.
func (u *updater) read(p place) error {
	var (
		b   job.Build
		err error
	)
	if p.origin == ours {
		var r record
		r, err = u.store.readRecord(u.store.dir(p))
		b = r.build
	} else {
		b, err = u.store.readResult(p)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if p.origin == ours {
			u.unrecorded = append(u.unrecorded, p)
		}
		return nil
	}
	r := rowOf(p, b)
	if err != nil {
		u.store.log.Error().Err(err).Stringer("build", p.id).Msg("build can not be read")
		r.damaged = true
		r.build = job.Build{Job: jobName(p.job), Result: job.Failure(job.ServerSide, "%v", err)}
	}
	r.build.UUID = p.id
	u.seen[p.id] = p
	u.added++
	u.store.index.add(r)
	u.artifacts += len(r.hashes)
	if u.added%batchRows == 0 || u.artifacts >= batchArtifacts {
		u.artifacts = 0
		return u.store.index.flushAll()
	}
	return nil
}
