package store

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// Build reads a build: ours from its record, one of the reference from its
// result, which is read as a whole to hash the artifacts. It is an [ErrNotFound]
// if no such build has ended, and an [ErrDamaged] if what is there is damaged.
func (s *Store) Build(id uuid.UUID) (job.Build, error) {
	p, err := s.index.find(id)
	if err != nil {
		return job.Build{}, err
	}
	if p.origin == theirs {
		return s.readResult(p)
	}
	r, err := s.recordOf(p)
	return r.build, err
}

// RecordSize is how many octets [Store.Build] decodes: little, but for builds with
// very many artifacts. It is 0 for those of the reference.
func (s *Store) RecordSize(id uuid.UUID) (int64, error) {
	p, err := s.index.find(id)
	if err != nil || p.origin == theirs {
		return 0, err
	}
	info, err := s.fsys.Stat(filepath.Join(s.dir(p), recordFile))
	if err != nil {
		return 0, fmt.Errorf("reading record: %w", err)
	}
	return info.Size(), nil
}

// Resolve finds the build with that uuid, or the only one whose uuid begins with
// prefix (see [ParsePrefix]). It is an [ErrNotFound] or an [ErrAmbiguous] if there
// is not exactly one.
func (s *Store) Resolve(prefix string) (uuid.UUID, error) {
	p, err := ParsePrefix(prefix)
	if err != nil {
		return uuid.Nil, err
	}
	found, err := s.index.between(p)
	switch {
	case err != nil:
		return uuid.Nil, err
	case len(found) == 0:
		return uuid.Nil, fmt.Errorf("build %s: %w", prefix, ErrNotFound)
	case len(found) > 1:
		names := make([]string, len(found))
		for i, id := range found {
			names[i] = id.String()
		}
		return uuid.Nil, fmt.Errorf("build %s: %w: %s", prefix, ErrAmbiguous, strings.Join(names, ", "))
	}
	return found[0], nil
}

// Latest reads the build that was started last, of that job and on that platform
// unless these are empty. It is an [ErrNotFound] if there is none.
func (s *Store) Latest(jobName, platform string) (job.Build, error) {
	rows, err := s.index.newest(jobName, platform, false, 1)
	if err != nil {
		return job.Build{}, err
	}
	if len(rows) == 0 {
		return job.Build{}, fmt.Errorf("latest build: %w", ErrNotFound)
	}
	return s.Build(rows[0].build.UUID)
}

// LatestSuccess is the build that was started last of those of a job, and on a
// platform unless that is empty, that succeeded. It is an [ErrNotFound] if there
// is none.
func (s *Store) LatestSuccess(jobName, platform string) (uuid.UUID, error) {
	rows, err := s.index.newest(jobName, platform, true, 1)
	if err != nil {
		return uuid.Nil, err
	}
	if len(rows) == 0 {
		return uuid.Nil, fmt.Errorf("latest build that succeeded: %w", ErrNotFound)
	}
	return rows[0].build.UUID, nil
}

// List returns the builds of a job, of all jobs if jobName is empty, newest
// first, no more than limit unless that is 0. They lack artifacts and notes, and a
// result's text is cut after 1000 octets. One whose record is damaged is there as a failed one, with id and job only.
func (s *Store) List(jobName string, limit int) ([]job.Build, error) {
	builds, _, err := s.ListOutputs(jobName, limit)
	return builds, err
}

// ListOutputs is List with what the builds came to, in the same order.
func (s *Store) ListOutputs(jobName string, limit int) ([]job.Build, []job.Output, error) {
	rows, err := s.index.newest(jobName, "", false, limit)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	builds, outputs := make([]job.Build, len(rows)), make([]job.Output, len(rows))
	for i, r := range rows {
		builds[i], outputs[i] = r.build, r.output
	}
	return builds, outputs, nil
}

// unwritten writes what waits, and returns the rows that it could not write: when
// the disk is full, those who only read are answered all the same.
func (x *index) unwritten() []row {
	err := x.flush()
	if err == nil {
		return nil
	}
	x.log.Error().Err(err).Msg("writing index")
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.waiting)
}

const prefixQuery = "SELECT uuid FROM builds WHERE uuid BETWEEN ? AND ? ORDER BY uuid LIMIT ?"

// find returns where a build lies.
func (x *index) find(id uuid.UUID) (place, error) {
	for _, r := range x.unwritten() {
		if r.place.id == id {
			return r.place, nil
		}
	}
	p := place{id: id}
	var directory []byte
	err := x.db.QueryRowContext(unhurried, "SELECT origin, directory FROM builds WHERE uuid = ?", id[:]).Scan(&p.origin, &directory)
	if errors.Is(err, sql.ErrNoRows) {
		return place{}, fmt.Errorf("build %v: %w", id, ErrNotFound)
	}
	if err != nil {
		return place{}, fmt.Errorf("reading index: %w", err)
	}
	p.job = string(directory)
	return p, nil
}

// between returns the first few ids that fit.
func (x *index) between(p Prefix) ([]uuid.UUID, error) {
	const few = 5
	var found []uuid.UUID
	for _, r := range x.unwritten() {
		if p.Fits(r.place.id) {
			found = append(found, r.place.id)
		}
	}
	err := x.query(func(scan func(...any) error) error {
		var id []byte
		if err := scan(&id); err != nil {
			return err
		}
		if id := uuid.UUID(id); !slices.Contains(found, id) { // it may have been written just now
			found = append(found, id)
		}
		return nil
	}, prefixQuery, p.from[:], p.to[:], few)
	return found, err
}

// newest returns builds by descending start.
func (x *index) newest(jobName, platform string, succeeded bool, limit int) ([]row, error) {
	var (
		conditions []string
		args       []any
		rows       []row
	)
	for _, r := range x.unwritten() {
		b := r.build
		if (jobName == "" || b.Job == jobName) && (platform == "" || b.Platform == platform) && (!succeeded || b.Result.Success()) {
			rows = append(rows, r)
		}
	}
	unwritten := len(rows)
	if jobName != "" {
		conditions, args = append(conditions, "job = ?"), append(args, []byte(jobName))
	}
	if platform != "" {
		conditions, args = append(conditions, "platform = ?"), append(args, []byte(platform))
	}
	if succeeded {
		conditions, args = append(conditions, "kind = ? AND code = 0"), append(args, int(job.Exited))
	}
	if limit <= 0 {
		limit = -1 // none, to SQLite
	}
	err := x.query(func(scan func(...any) error) error {
		r, err := scanRow(scan)
		rows = append(rows, r)
		return err
	}, newestQuery(conditions), append(args, limit)...)
	if unwritten > 0 {
		slices.SortStableFunc(rows, func(a, b row) int { return b.build.Started.Compare(a.build.Started) })
		if limit > 0 {
			rows = rows[:min(limit, len(rows))]
		}
	}
	return rows, err
}

func newestQuery(conditions []string) string {
	where := ""
	if len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
	}
	return "SELECT " + columns + " FROM builds" + where + " ORDER BY started DESC, uuid DESC LIMIT ?"
}

// query gives every row of the answer to visit.
func (x *index) query(visit func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := x.db.QueryContext(unhurried, query, args...)
	if err != nil {
		return fmt.Errorf("reading index: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err has it
	for rows.Next() {
		if err := visit(rows.Scan); err != nil {
			return fmt.Errorf("reading index: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading index: %w", err)
	}
	return nil
}
