package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"builder/pkg/job"

	"golang.org/x/sync/errgroup"
)

// Elsewhere are the stores that hold contents of artifacts in place of this one,
// each known by its location. Its methods are called from several goroutines.
type Elsewhere interface {
	// Follows reports whether a location is one of theirs.
	Follows(location string) bool
	// Has asks whether c lies there, by its length.
	Has(ctx context.Context, location string, c job.Content) (bool, error)
	// Open opens c; the error is an fs.ErrNotExist when it does not lie there. The
	// reader gives as many octets as c has, or fails; the hash is checked here.
	Open(ctx context.Context, location string, c job.Content) (io.ReadCloser, error)
}

// Follow makes the Store follow artifacts to other stores; without it none is. It
// comes before all other methods.
func (s *Store) Follow(e Elsewhere) { s.elsewhere = e }

func (s *Store) follows(location string) bool {
	return s.elsewhere != nil && s.elsewhere.Follows(location)
}

// open opens the content of an artifact wherever it lies, held to its hash as by
// [Store.OpenChecked]. What is elsewhere is read only while ctx is not done.
func (s *Store) open(ctx context.Context, a job.Artifact) (io.ReadCloser, error) {
	if a.Location == "" {
		return s.OpenChecked(a.Content)
	}
	in, err := s.openLocation(ctx, a)
	if err != nil {
		return nil, err
	}
	return checkedAgainst(a.Content, in), nil
}

func (s *Store) openLocation(ctx context.Context, a job.Artifact) (io.ReadCloser, error) {
	if !s.follows(a.Location) {
		return nil, fmt.Errorf("opening artifact %q: %w", a.Path, notFollowed(a.Location))
	}
	in, err := s.elsewhere.Open(ctx, a.Location, a.Content)
	if err != nil {
		return nil, fmt.Errorf("opening artifact %q: %w", a.Path, err)
	}
	return in, nil
}

// openElsewhere opens an artifact from an offset on; what comes before is read and
// forgotten.
func (s *Store) openElsewhere(a job.Artifact, offset int64) (io.ReadCloser, error) {
	in, err := s.openLocation(context.Background(), a)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, in, offset); err != nil {
		in.Close()
		return nil, fmt.Errorf("opening artifact %q: %w", a.Path, err)
	}
	return in, nil
}

func notFollowed(location string) error {
	return fmt.Errorf("it lies in the store %s, which this server does not know: name that with --store", location)
}

// CheckArtifact reads an artifact, wherever it lies, to its end. The error is an
// [ErrDamaged] when its content is missing or another one; any other error says
// that it could not be read now.
func (s *Store) CheckArtifact(ctx context.Context, a job.Artifact) error {
	in, err := s.open(ctx, a)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
		in.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// asked is how many contents another store is asked for at a time.
const asked = 8

// checkElsewhere finds what is missing or cut of the artifacts that lie elsewhere,
// by their lengths alone.
func (s *Store) checkElsewhere(ctx context.Context, artifacts []job.Artifact) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asked)
	seen := map[job.Content]bool{}
	for _, a := range artifacts {
		if a.Location == "" || seen[a.Content] {
			continue
		}
		if !s.follows(a.Location) {
			return errors.Join(fmt.Errorf("artifact %q: %w", a.Path, notFollowed(a.Location)), group.Wait())
		}
		seen[a.Content] = true
		group.Go(func() error {
			there, err := s.elsewhere.Has(ctx, a.Location, a.Content)
			if err == nil && !there {
				err = fmt.Errorf("%w: the artifact %q (content %v) is missing or cut in the store %s", ErrDamaged, a.Path, a.Content, a.Location)
			}
			return err
		})
	}
	return group.Wait()
}
