package store

import (
	"fmt"
	"io"
	"io/fs"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// Selected is an artifact of a build that can be opened.
type Selected struct {
	job.Artifact
	open func(offset int64) (io.ReadCloser, error)
}

// Open gives the octets from an offset on, which is not beyond the end; the caller
// closes it. From the beginning they are held to the hash: when they are others
// the reader fails with an [ErrDamaged] before it gives the last of them. From
// elsewhere on only those can do that who have what comes before.
func (a Selected) Open(offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > a.Size {
		return nil, fmt.Errorf("artifact %q has %d octets, and none from %d on", a.Path, a.Size, offset)
	}
	in, err := a.open(offset)
	if err != nil || offset > 0 {
		return in, err
	}
	return checkedAgainst(a.Content, in), nil
}

// Select finds artifacts of a build by their paths. They are in the same order;
// nil is one that the build does not have. A record is read once; so is a result
// of the reference, to hash them. When the artifacts were pruned the error is a
// [*PrunedError].
func (s *Store) Select(id uuid.UUID, paths []string) ([]*Selected, error) {
	p, err := s.index.find(id)
	if err != nil {
		return nil, err
	}
	wanted := wishes{}
	for _, path := range paths {
		wanted[path] = nil
	}
	if p.origin == theirs {
		err = s.selectResult(p, wanted)
	} else {
		err = s.selectRecorded(p, wanted)
	}
	if err != nil {
		return nil, err
	}
	selected := make([]*Selected, len(paths))
	for i, path := range paths {
		selected[i] = wanted[path]
	}
	return selected, nil
}

// wishes are the artifacts that are wanted, by their paths; nil until found. Of
// several with the same path the first counts.
type wishes map[string]*Selected

func (w wishes) lack(path string) bool {
	found, wanted := w[path]
	return wanted && found == nil
}

func (w wishes) grant(a Selected) { w[a.Path] = &a }

// granted reports whether nothing is lacking.
func (w wishes) granted() bool {
	for _, found := range w {
		if found == nil {
			return false
		}
	}
	return true
}

// selectRecorded is Select for one of our builds.
func (s *Store) selectRecorded(p place, wanted wishes) error {
	rec, err := s.readRecord(s.dir(p))
	if err != nil {
		return err
	}
	artifacts, err := s.artifactsOf(p, rec.build)
	if err != nil {
		return err
	}
	for _, a := range artifacts {
		if wanted.lack(a.Path) {
			wanted.grant(Selected{a, func(offset int64) (io.ReadCloser, error) { return s.openArtifact(a, offset) }})
		}
	}
	return nil
}

// openArtifact opens one artifact of a record from an offset on.
func (s *Store) openArtifact(a job.Artifact, offset int64) (io.ReadCloser, error) {
	if a.Location != "" {
		return s.openElsewhere(a, offset)
	}
	in, err := s.openContent(a.Content)
	if err != nil {
		return nil, err
	}
	if _, err := in.Seek(offset, io.SeekStart); err != nil {
		in.Close()
		return nil, fmt.Errorf("opening content %v: %w", a.Content, err)
	}
	return in, nil
}

// OpenArtifact opens an artifact of a build for reading and returns its size;
// the caller closes it. When the build has none of that path the error is an
// fs.ErrNotExist, when there is no such build an [ErrNotFound], when its artifacts
// were pruned a [*PrunedError].
func (s *Store) OpenArtifact(id uuid.UUID, path string) (io.ReadCloser, int64, error) {
	found, err := s.Select(id, []string{path})
	if err != nil {
		return nil, 0, err
	}
	if found[0] == nil {
		return nil, 0, fmt.Errorf("build %v has no artifact %q: %w", id, path, fs.ErrNotExist)
	}
	in, err := found[0].Open(0)
	return in, found[0].Size, err
}
