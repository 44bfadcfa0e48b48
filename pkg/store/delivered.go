package store

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// uuidLength is that of a uuid as text.
const uuidLength = 36

// deliveryFile is where c is received that was offered for the build id. (Of two
// contents with one hash and different sizes at least one is a lie, but which?)
func (s *Store) deliveryFile(id uuid.UUID, c job.Content) string {
	return s.temporaries + "/" + id.String() + "-" + c.String() + "-" + strconv.FormatInt(c.Size, 10)
}

// deliveryOf says for which build the file of that name in tmp is, if for any.
func deliveryOf(name string) (uuid.UUID, bool) {
	if len(name) <= uuidLength || name[uuidLength] != '-' {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(name[:uuidLength])
	return id, err == nil
}

// delivered lists the files that were received for a build, with their lengths.
func (s *Store) delivered(id uuid.UUID) (map[string]int64, error) {
	entries, err := s.fsys.ReadDir(s.temporaries)
	if err != nil {
		return nil, err
	}
	found := map[string]int64{}
	for _, entry := range entries {
		if of, ok := deliveryOf(entry.Name()); !ok || of != id {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[filepath.Join(s.temporaries, entry.Name())] = info.Size()
	}
	return found, nil
}
