package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"builder/pkg/job"

	"github.com/google/uuid"
)

const (
	// foundNames is how many octets of names of one build's artifacts Find returns,
	// or a single longer one.
	foundNames = 4 << 10
	// falseFinds is how many builds that only seem to have a content Find passes
	// over: those that started in the same nanosecond as one that has it.
	falseFinds = 100
)

// Find returns the builds that have an artifact with that hash, newest first, no
// more than limit. They have those artifacts only, of very many the first, and no
// notes. One that can not be read is logged and left out.
func (s *Store) Find(sum [sha256.Size]byte, limit int) ([]job.Build, error) {
	ids, err := s.index.having(beginning(sum), limit+falseFinds)
	if err != nil {
		return nil, err
	}
	var found []job.Build
	for _, id := range ids {
		if len(found) == limit {
			break
		}
		b, err := s.readOne(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			s.log.Error().Err(err).Stringer("build", id).Msg("build can not be read")
			continue
		}
		if same := having(b.Artifacts, sum); len(same) > 0 {
			b.Artifacts, b.Notes = same, nil
			found = append(found, b)
		}
	}
	return found, nil
}

// having are the artifacts with that hash.
func having(artifacts []job.Artifact, sum [sha256.Size]byte) []job.Artifact {
	var same []job.Artifact
	names := 0
	for _, a := range artifacts {
		if a.SHA256 != sum {
			continue
		}
		if names += len(a.Path); len(same) > 0 && names > foundNames {
			break
		}
		same = append(same, a)
	}
	return same
}

// readOne is Build for those who read many: one after the other, so that what is
// in memory is one record and not as many as there are who ask.
func (s *Store) readOne(id uuid.UUID) (job.Build, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.Build(id)
}

const havingQuery = `SELECT uuid FROM artifacts JOIN builds ON builds.started = artifacts.started
	WHERE hash = ? ORDER BY artifacts.started DESC LIMIT ?`

// having returns the ids of builds that may have an artifact whose hash begins so,
// newest first.
func (x *index) having(hash int64, limit int) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	for _, r := range x.unlistedRows() {
		if _, ok := slices.BinarySearch(r.hashes, hash); ok {
			ids = append(ids, r.place.id)
		}
	}
	err := x.query(func(scan func(...any) error) error {
		var id []byte
		if err := scan(&id); err != nil {
			return err
		}
		if len(id) != len(uuid.UUID{}) {
			return fmt.Errorf("uuid of %d octets", len(id))
		}
		if found := uuid.UUID(id); !slices.Contains(ids, found) {
			ids = append(ids, found)
		}
		return nil
	}, havingQuery, hash, limit)
	return ids, err
}

// unlistedRows writes what waits, artifacts included, and returns what could not
// be written, newest first.
func (x *index) unlistedRows() []row {
	err := x.flushAll()
	if err == nil {
		return nil
	}
	x.log.Error().Err(err).Msg("writing index")
	x.mu.Lock()
	defer x.mu.Unlock()
	rows := slices.Concat(x.waiting, x.unlisted)
	slices.SortStableFunc(rows, func(a, b row) int { return b.build.Started.Compare(a.build.Started) })
	return rows
}
