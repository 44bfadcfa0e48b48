package store

import (
	"crypto/sha256"
	"database/sql"

	"builder/pkg/job"
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
