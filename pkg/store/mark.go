package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// What is said about a build after its commit are empty files beside its record. The
// time of such a file is when that was said.
const (
	pinnedFile   = "pinned"
	prunedFile   = "pruned"
	uploadedFile = "uploaded"
)

// Marks are what was said about a build since it was committed. A time is zero also
// where the file system keeps none.
type Marks struct {
	Pinned           bool // no Prune removes anything of it
	Pruned, Uploaded bool
	PrunedAt         time.Time
	UploadedAt       time.Time
}

// PrunedError says that the artifacts of a build are gone since it was decided so.
type PrunedError struct {
	UUID uuid.UUID
	At   time.Time // zero if that is not known
}

// Error implements error.
func (e *PrunedError) Error() string {
	on := ""
	if !e.At.IsZero() {
		on = " on " + e.At.UTC().Format(time.DateOnly)
	}
	return fmt.Sprintf("the artifacts of build %v were pruned%s by retention", e.UUID, on)
}

// Marks returns what was said about a build that has ended. One that is not there,
// and one of the reference, has none.
func (s *Store) Marks(jobName string, id uuid.UUID) (Marks, error) {
	dir := s.dir(place{ours, directoryName(jobName), id})
	var m Marks
	for _, name := range []string{pinnedFile, prunedFile, uploadedFile} {
		info, err := s.fsys.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return m, fmt.Errorf("reading the marks of build %v: %w", id, err)
		}
		m.set(name, info)
	}
	return m, nil
}

// set notes what a file of that name says, if anything.
func (m *Marks) set(name string, info fs.FileInfo) {
	switch name {
	case pinnedFile:
		m.Pinned = true
	case prunedFile:
		m.Pruned, m.PrunedAt = true, info.ModTime()
	case uploadedFile:
		m.Uploaded, m.UploadedAt = true, info.ModTime()
	}
}

// checkPruned returns a [*PrunedError] when the artifacts of ours at p were pruned.
func (s *Store) checkPruned(p place) error {
	info, err := s.fsys.Stat(filepath.Join(s.dir(p), prunedFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking whether build %v was pruned: %w", p.id, err)
	}
	return &PrunedError{p.id, info.ModTime()}
}

// Pin keeps a build that has ended from every Prune, until Unpin. That is durable
// when it returns. Pinning again does nothing. What was pruned before stays gone.
func (s *Store) Pin(id uuid.UUID) error { return s.pin(id, true) }

// Unpin takes back Pin, durably; when there was none it does nothing.
func (s *Store) Unpin(id uuid.UUID) error { return s.pin(id, false) }

func (s *Store) pin(id uuid.UUID, set bool) error {
	dir, err := s.mark(id, pinnedFile, set)
	if err != nil {
		return err
	}
	// Also when nothing was changed: whoever did may not have come to that yet.
	if s.ahead.has(id) { // only the log makes the name of its directory durable
		err = s.syncNames(dir)
	} else {
		err = s.fsys.SyncDir(dir)
	}
	if errors.Is(err, fs.ErrNotExist) { // what is not pinned any more may be pruned at once
		if !set {
			return nil
		}
		err = fmt.Errorf("it was unpinned and removed meanwhile: %w", ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("marking build %v: %w", id, err)
	}
	return nil
}

// MarkUploaded notes that a frontend has all of a build, so that its artifacts may go
// some time after now. It is not durable at once: without it they stay as long as the
// build.
func (s *Store) MarkUploaded(id uuid.UUID) error {
	_, err := s.mark(id, uploadedFile, true)
	return err
}

// mark makes or removes a mark and returns the directory that has it.
func (s *Store) mark(id uuid.UUID, name string, set bool) (dir string, err error) {
	p, err := s.index.find(id)
	if err != nil {
		return "", err
	}
	if p.origin == theirs {
		return "", fmt.Errorf("build %v was taken over from the reference: its result is left as it is, and never removed", id)
	}
	dir = s.dir(p)
	err = s.changeMark(dir, name, set)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("it was just removed: %w", ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("marking build %v: %w", id, err)
	}
	return dir, nil
}

// changeMark makes or removes a mark. It decides against a Prune that is about to
// remove the build: one of both sees what the other did.
func (s *Store) changeMark(dir, name string, set bool) error {
	s.marking.Lock()
	defer s.marking.Unlock()
	if _, err := s.fsys.Stat(filepath.Join(dir, recordFile)); err != nil {
		return err
	}
	if set {
		return s.touch(filepath.Join(dir, name))
	}
	err := s.fsys.Remove(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// touch makes an empty file; one that is there stays as it is.
func (s *Store) touch(name string) error {
	f, err := s.fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// unlessPinned calls change unless the build in dir is pinned, which nobody can
// become meanwhile. It reports whether it did.
func (s *Store) unlessPinned(dir string, change func() error) (bool, error) {
	s.marking.Lock()
	defer s.marking.Unlock()
	_, err := s.fsys.Stat(filepath.Join(dir, pinnedFile))
	switch {
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, change()
}

// artifactsOf are the artifacts of a build of ours, unless they were pruned.
func (s *Store) artifactsOf(p place, b job.Build) ([]job.Artifact, error) {
	if len(b.Artifacts) > 0 {
		if err := s.checkPruned(p); err != nil {
			return nil, err
		}
	}
	return b.Artifacts, nil
}
