package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"builder/pkg/console"
	"builder/pkg/job"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	// maxArtifacts and maxNotes bound a record, whatever a worker sends.
	maxArtifacts = 100_000
	maxNotes     = 1_000
	// maxUnsynced bounds the artifacts whose sync is under way: a disk that is
	// slower than the network holds the network up, not more files open.
	maxUnsynced = 8
)

// Draft is a build that is being made. It ends with [Draft.Commit] or
// [Draft.Abandon]; the other methods have returned before and are safe for
// concurrent use. Artifacts are kept in the order in which they are complete.
//
//	Begin, Resume -> open --Commit--> recorded
//	                  |  ^----'error
//	                  '--Abandon----> abandoned --Resume--> open
type Draft struct {
	store   *Store
	place   place
	dir     string
	job     string
	console *console.Writer
	pending pendingSyncs // what Begin or Resume made
	syncs   errgroup.Group

	mu        sync.Mutex
	artifacts []job.Artifact
	contents  []*incoming
	paths     map[string]bool
	notes     []string
	unnoted   int  // notes that were too many
	written   bool // there may be a record
	ended     bool
}

// Begin begins a build with an id that was never used before. Its directory and
// console need not be durable before Commit.
func (s *Store) Begin(jobName string, id uuid.UUID) (*Draft, error) {
	d, err := s.newDraft(jobName, id)
	if err != nil {
		return nil, fmt.Errorf("beginning build %v: %w", id, err)
	}
	if err := s.fsys.Mkdir(d.dir, 0o755); err != nil {
		return nil, fmt.Errorf("beginning build %v: %w", id, err)
	}
	if d.console, err = console.Create(s.fsys, d.dir); err != nil {
		return nil, fmt.Errorf("beginning build %v: %w", id, err)
	}
	return d, nil
}

// Resume goes on with a build after a restart of the server, or after an error of
// Begin or Abandon: with what is there of its console, which may be nothing at
// all, and no artifacts. There must be no other draft of that build.
func (s *Store) Resume(jobName string, id uuid.UUID) (*Draft, error) {
	d, err := s.newDraft(jobName, id)
	if err != nil {
		return nil, fmt.Errorf("resuming build %v: %w", id, err)
	}
	if err := s.fsys.Mkdir(d.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("resuming build %v: %w", id, err)
	}
	if d.console, err = console.Reopen(s.fsys, d.dir); err != nil {
		return nil, fmt.Errorf("resuming build %v: %w", id, err)
	}
	return d, nil
}

func (s *Store) newDraft(jobName string, id uuid.UUID) (*Draft, error) {
	p := place{ours, directoryName(jobName), id}
	d := &Draft{store: s, place: p, dir: s.dir(p), job: jobName, pending: pendingSyncs{}, paths: map[string]bool{}}
	d.syncs.SetLimit(maxUnsynced)
	parent := filepath.Dir(d.dir)
	if err := s.dirs.make(parent, d.pending); err != nil {
		return nil, err
	}
	d.pending.add(parent)
	d.pending.add(d.dir)
	return d, nil
}

// Console is the build's console. It ends with the draft: the draft closes it.
func (d *Draft) Console() *console.Writer { return d.console }

// Add receives an artifact of size octets from r, in constant memory. One that
// can not be kept (bad or repeated path, too many) is read and forgotten, and a
// note says so. When r ends early the error is io.ErrUnexpectedEOF; after any
// error the draft is without this artifact and can be used on.
func (d *Draft) Add(path string, mode fs.FileMode, r io.Reader, size int64) error {
	r = &exactly{r, size}
	if !d.claim(path) {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return fmt.Errorf("skipping artifact %q: %w", path, err)
		}
		return nil
	}
	in, err := d.store.receive(r)
	if err != nil {
		d.unclaim(path)
		return fmt.Errorf("receiving artifact %q: %w", path, err)
	}
	if in.file != nil {
		// It is on its way to the disk while the next one comes over the network.
		d.syncs.Go(in.sync)
	}
	d.keep(job.Artifact{Path: path, Mode: mode & fs.ModePerm, Content: in.content}, in)
	return nil
}

// AddStored adds an artifact whose content the store has already; it is an error
// when it has not.
func (d *Draft) AddStored(path string, mode fs.FileMode, c job.Content) error {
	if !d.store.HasContent(c) {
		return fmt.Errorf("adding artifact %q: content %v is missing from the store: %w", path, c, fs.ErrNotExist)
	}
	if d.claim(path) {
		d.keep(job.Artifact{Path: path, Mode: mode & fs.ModePerm, Content: c}, &incoming{content: c})
	}
	return nil
}

// claim reserves path, or notes why that can not be.
func (d *Draft) claim(path string) bool {
	err := job.CheckPath(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		d.note(fmt.Sprintf("not kept: %v", err))
	case d.paths[path]:
		d.note(fmt.Sprintf("not kept: a second artifact with the path %q", path))
	case len(d.paths) == maxArtifacts:
		d.note(fmt.Sprintf("not kept: artifact %q, there are %d already", path, maxArtifacts))
	default:
		d.paths[path] = true
		return true
	}
	return false
}

func (d *Draft) unclaim(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.paths, path)
}

func (d *Draft) keep(a job.Artifact, in *incoming) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.artifacts = append(d.artifacts, a)
	d.contents = append(d.contents, in)
}

// Note adds a note to the record.
func (d *Draft) Note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(fmt.Sprintf(format, args...))
}

func (d *Draft) note(text string) {
	if len(d.notes) == maxNotes {
		d.unnoted++
		return
	}
	d.notes = append(d.notes, text)
}

// allNotes is the notes, with those of b in front.
func (d *Draft) allNotes(b job.Build) []string {
	notes := append(slices.Clone(b.Notes), d.notes...)
	if d.unnoted > 0 {
		notes = append(notes, fmt.Sprintf("%d more notes are left out", d.unnoted))
	}
	return notes
}

// exactly is the next left octets of r; fewer are an error.
type exactly struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (e *exactly) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
