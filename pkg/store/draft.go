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
)

const (
	// maxArtifacts and maxNotes bound a record, whatever a worker sends.
	maxArtifacts = 100_000
	maxNotes     = 1_000
)

// Draft is a build that is being made. It ends with [Draft.Commit],
// [Draft.Abandon] or [Draft.Suspend]; the other methods have returned before and
// are safe for concurrent use. Artifacts come by [Draft.Add], and are kept in the
// order in which they are complete, or by [Draft.Offer] and [Draft.Deliver].
//
//	Begin, Resume -> open --Commit--> recorded
//	                  |  ^----'error
//	                  |--Abandon----> abandoned --Resume--> open, without contents
//	                  '--Suspend----> suspended --Resume--> open, with what has come
type Draft struct {
	store   *Store
	place   place
	dir     string
	job     string
	console *console.Writer
	pending pendingSyncs // what Begin or Resume made
	// generation is that of the log in which the build may be; 0 for none.
	generation uint64
	resumed    bool
	hold       *hold // its contents, until a record names them
	syncs      contentSyncs

	mu        sync.Mutex
	artifacts []job.Artifact // that were added
	contents  []*incoming    // of those
	paths     map[string]bool
	offer     offer
	notes     notes
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
	err = s.fsys.Mkdir(d.dir, 0o755)
	if err == nil {
		d.console, err = console.Create(s.fsys, d.dir)
	}
	if err != nil {
		d.hold.release()
		return nil, fmt.Errorf("beginning build %v: %w", id, err)
	}
	return d, nil
}

// Resume goes on with a build after a restart of the server, or after an error of
// Begin or Abandon: with what is there of its console, which may be nothing at
// all, and no artifacts; what has come of contents is found by Offer. There must
// be no other draft of that build.
func (s *Store) Resume(jobName string, id uuid.UUID) (*Draft, error) {
	d, err := s.newDraft(jobName, id)
	if err != nil {
		return nil, fmt.Errorf("resuming build %v: %w", id, err)
	}
	if err = s.fsys.Mkdir(d.dir, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
		d.console, err = console.Reopen(s.fsys, d.dir)
	}
	if err != nil {
		d.hold.release()
		return nil, fmt.Errorf("resuming build %v: %w", id, err)
	}
	d.resumed = true
	return d, nil
}

func (s *Store) newDraft(jobName string, id uuid.UUID) (*Draft, error) {
	p := place{ours, directoryName(jobName), id}
	d := &Draft{store: s, place: p, dir: s.dir(p), job: jobName, pending: pendingSyncs{}, paths: map[string]bool{}}
	d.syncs.group.SetLimit(maxUnsynced)
	d.generation = s.ahead.begin()
	parent := filepath.Dir(d.dir)
	if err := s.dirs.make(parent, d.pending); err != nil {
		return nil, err
	}
	d.hold = s.use.draft(id)
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
	err := d.syncs.begin(d.store)
	var in *incoming
	if err == nil {
		in, err = d.store.receive(r, d.hold)
	}
	if err != nil {
		d.unclaim(path)
		return fmt.Errorf("receiving artifact %q: %w", path, err)
	}
	if in.file != nil {
		d.syncs.add(in, false)
	}
	d.keep(job.Artifact{Path: path, Mode: mode & fs.ModePerm, Content: in.content}, in)
	return nil
}

// AddStored adds an artifact whose content the store has already; it is an error
// when it has not.
func (d *Draft) AddStored(path string, mode fs.FileMode, c job.Content) error {
	if !d.store.holdsContent(d.hold, c) {
		return fmt.Errorf("adding artifact %q: content %v is missing from the store: %w", path, c, fs.ErrNotExist)
	}
	if d.claim(path) {
		d.keep(job.Artifact{Path: path, Mode: mode & fs.ModePerm, Content: c}, &incoming{content: c})
	}
	return nil
}

// claim reserves path, or notes why that can not be.
func (d *Draft) claim(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return claimPath(path, d.paths, &d.notes)
}

// claimPath adds path to paths, or notes why that can not be.
func claimPath(path string, paths map[string]bool, notes *notes) bool {
	err := job.CheckPath(path)
	switch {
	case err != nil:
		notes.add("not kept: %v", err)
	case paths[path]:
		notes.add("not kept: a second artifact with the path %q", path)
	case len(paths) == maxArtifacts:
		notes.add("not kept: artifact %q, there are %d already", path, maxArtifacts)
	default:
		paths[path] = true
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
	d.notes.add(format, args...)
}

// notes are at most maxNotes, and how many more there were.
type notes struct {
	list []string
	more int
}

func (n *notes) add(format string, args ...any) {
	if len(n.list) == maxNotes {
		n.more++
		return
	}
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

// all is the list, with first in front.
func (n *notes) all(first []string) []string {
	list := append(slices.Clone(first), n.list...)
	if n.more > 0 {
		list = append(list, fmt.Sprintf("%d more notes are left out", n.more))
	}
	return list
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
