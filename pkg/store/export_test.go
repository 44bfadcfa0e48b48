package store

import (
	"crypto/sha256"
	"database/sql"
	"errors"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// NewestQueries are the queries behind Latest and List, by what they ask for.
func NewestQueries() map[string]string {
	ofJob, onPlatform := "job = ?", "platform = ?"
	return map[string]string{
		"all":      newestQuery(nil),
		"job":      newestQuery([]string{ofJob}),
		"platform": newestQuery([]string{onPlatform}),
		"both":     newestQuery([]string{ofJob, onPlatform}),
	}
}

// The queries behind Resolve and Find.
const (
	PrefixQuery = prefixQuery
	HavingQuery = havingQuery
)

// Database is the index itself.
func (s *Store) Database() *sql.DB { return s.index.db }

// AddToIndex adds a build to the index that lies nowhere.
func (s *Store) AddToIndex(b job.Build) {
	s.index.add(rowOf(place{ours, directoryName(b.Job), b.UUID}, b))
}

// Having counts the builds that Find would look at.
func (s *Store) Having(sum [sha256.Size]byte, limit int) (int, error) {
	ids, err := s.index.having(beginning(sum), limit)
	return len(ids), err
}

// Settle drops the log of committed builds, as it is done now and then.
func (s *Store) Settle() error { return s.ahead.settle() }

// Logged reports whether a build is in the log.
func (s *Store) Logged(id uuid.UUID) bool { return s.ahead.has(id) }

// Settling reports whether somebody waits for commits to end, to drop the log.
func (s *Store) Settling() bool {
	if s.ahead.commits.TryRLock() {
		s.ahead.commits.RUnlock()
		return false
	}
	return true
}

// Die closes the Store as the end of the process does: the log stays.
func (s *Store) Die() error { return errors.Join(s.ahead.release(), s.index.close()) }

// HoldLog keeps the log from being written. Waiting is how many builds wait for that,
// and batches how many were ever written.
func (s *Store) HoldLog() (waiting func() int, batches func() uint64, release func()) {
	a := s.ahead
	a.writing.Lock()
	return func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.next == nil {
			return 0
		}
		return len(a.next.records)
	}, a.journal.Seq, a.writing.Unlock
}
