package store

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"builder/pkg/console"

	"github.com/google/uuid"
)

// Leftover is a build without a record, which nobody may be making any more: the
// disk failed when it ended, or the schedule is older than it.
type Leftover struct {
	Job  string
	UUID uuid.UUID
	// Written is when its console was last written; zero if there is none.
	Written time.Time
}

// Leftovers are the builds that had no record when the Store was opened, and have
// none now. Those that are to go on have their drafts, or records, by then. Each
// can be resumed; one whose job can not be told from its directory is logged only.
func (s *Store) Leftovers() []Leftover {
	var all []Leftover
	for _, p := range s.unrecorded {
		dir := s.dir(p)
		if _, err := s.fsys.Stat(filepath.Join(dir, recordFile)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		left := Leftover{Job: jobName(p.job), UUID: p.id}
		if directoryName(left.Job) != p.job {
			s.log.Warn().Str("file", dir).Msg("a build without a record is left alone: its job's name is too long to be known")
			continue
		}
		if info, err := s.fsys.Stat(filepath.Join(dir, console.TextFile)); err == nil {
			left.Written = info.ModTime()
		}
		all = append(all, left)
	}
	return all
}
