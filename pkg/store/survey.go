package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/retention"

	"github.com/google/uuid"
)

// goneSuffix is behind the uuid in the name of a build's directory that is being
// removed: it is no build any more, and the rest of it may be gone.
const goneSuffix = ".removed"

// survey is what lies in the directory of builds, read from there: the index is a
// cache, and nothing that it says is reason enough to remove something.
type survey struct {
	builds []retention.Build
	about  map[uuid.UUID]surveyed
	gone   []string // directories that are to be removed, since another Prune began to
	// kept are contents of builds that are there twice: the second one stays.
	kept []contentKey
	// damaged counts records that can not be read, of which nobody knows what they
	// name.
	damaged int
}

// surveyed is what a survey keeps of a build beside what retention decides by.
type surveyed struct {
	place  place
	script contentKey
	keys   []contentKey // of its artifacts
	files  int64        // octets of the files in its directory
}

// survey reads all builds of ours, but those that are being made.
func (s *Store) survey(ctx context.Context) (*survey, error) {
	v := &survey{about: map[uuid.UUID]surveyed{}}
	jobs, err := s.fsys.ReadDir(s.builds())
	if err != nil {
		return nil, fmt.Errorf("reading all builds: %w", err)
	}
	for _, entry := range jobs {
		if !entry.IsDir() {
			continue
		}
		if err := s.surveyJob(ctx, v, entry.Name()); err != nil {
			return nil, fmt.Errorf("reading all builds: %w", err)
		}
	}
	return v, nil
}

func (s *Store) surveyJob(ctx context.Context, v *survey, directory string) error {
	entries, err := s.fsys.ReadDir(filepath.Join(s.builds(), directory))
	if err != nil {
		return err
	}
	first := len(v.builds)
	sizes := map[uuid.UUID][]int64{} // of each one's artifacts, as its keys
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		name, gone := strings.CutSuffix(entry.Name(), goneSuffix)
		id, err := uuid.Parse(name)
		switch {
		case err != nil || id.String() != name || !entry.IsDir():
			continue
		case gone:
			v.gone = append(v.gone, filepath.Join(s.builds(), directory, entry.Name()))
			continue
		}
		// Asked before the record is read: what is not made any more has one, or none
		// that anybody will read.
		if s.use.drafting(id) {
			continue
		}
		if sizes[id], err = s.surveyBuild(v, place{ours, directory, id}); err != nil {
			return err
		}
	}
	v.share(v.builds[first:], sizes)
	return nil
}

// surveyBuild adds a build and returns the sizes of its artifacts. One without a
// record is none, one whose record is damaged is counted.
func (s *Store) surveyBuild(v *survey, p place) ([]int64, error) {
	dir := s.dir(p)
	r, err := s.readRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		v.damaged++
		s.log.Error().Err(err).Stringer("build", p.id).Msg("build can not be read: contents that it may name are kept")
		return nil, nil
	}
	b := r.build
	about := surveyed{place: p, script: keyOf(b.Script), keys: make([]contentKey, len(b.Artifacts))}
	sizes := make([]int64, len(b.Artifacts))
	for i, a := range b.Artifacts {
		if about.keys[i] = keyOf(a.Content); a.Location == "" { // else nothing of ours goes with it
			sizes[i] = a.Size
		}
	}
	if _, twice := v.about[p.id]; twice {
		v.kept = append(append(v.kept, about.script), about.keys...)
		return nil, nil
	}
	var marks Marks
	if about.files, marks, err = s.lookInto(dir); err != nil {
		return nil, err
	}
	v.about[p.id] = about
	v.builds = append(v.builds, retention.Build{
		UUID: p.id, Job: b.Job, Platform: b.Platform, Started: b.Started, Finished: b.Finished, Success: b.Result.Success(),
		Pinned: marks.Pinned, Pruned: marks.Pruned, Uploaded: marks.UploadedAt, Artifacts: len(b.Artifacts),
	})
	return sizes, nil
}

// share tells of each of a job's builds what it takes of the disk beside the newer
// ones, and brings them into that order.
func (v *survey) share(builds []retention.Build, sizes map[uuid.UUID][]int64) {
	slices.SortFunc(builds, retention.Newer)
	newer := map[contentKey]bool{}
	for i := range builds {
		b := &builds[i]
		about := v.about[b.UUID]
		b.Octets = about.files
		if b.Pruned {
			continue
		}
		for n, key := range about.keys {
			if !newer[key] {
				newer[key] = true
				b.Octets += sizes[b.UUID][n]
			}
		}
	}
}

// lookInto tells how many octets the files in a build's directory have, and its marks.
func (s *Store) lookInto(dir string) (octets int64, m Marks, err error) {
	entries, err := s.fsys.ReadDir(dir)
	if err != nil {
		return 0, m, err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, m, err
		}
		octets += info.Size()
		m.set(entry.Name(), info)
	}
	return octets, m, nil
}
