package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"builder/pkg/disk"
)

// damagedDir is where damaged contents are moved, out of the way of a whole one.
func (s *Store) damagedDir() string { return filepath.Join(s.root, "v1", "damaged") }

// moveAside moves everything among the contents that is not what its name says to
// a directory of its own. Nothing is removed. From then on a damaged content is one
// that the store lacks: it is taken when a build offers it once more.
func (v *verifier) moveAside() error {
	if !v.Repair || len(v.damaged)+len(v.strays) == 0 {
		return nil
	}
	if err := disk.MkdirAll(v.store.fsys, v.store.damagedDir(), 0o755); err != nil {
		return fmt.Errorf("moving damaged contents aside: %w", err)
	}
	for _, known := range v.misplaced() {
		aside, err := v.store.moveAside(known.file)
		if err != nil {
			return fmt.Errorf("moving damaged content aside: %w", err)
		}
		known.aside = aside
	}
	return nil
}

// moveAside moves one file, or directory, and returns its new name. Both are
// durable when it returns; of a move that was under way when the power was cut
// either name is left.
func (s *Store) moveAside(file string) (string, error) {
	aside := filepath.Join(s.damagedDir(), filepath.Base(file))
	for n := 1; ; n++ {
		// Nobody else makes names there: the caller has the directory to itself.
		_, err := s.fsys.Stat(aside)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		aside = filepath.Join(s.damagedDir(), fmt.Sprintf("%s-%d", filepath.Base(file), n))
	}
	if err := s.fsys.Rename(file, aside); err != nil {
		return "", err
	}
	if err := s.fsys.SyncDir(s.damagedDir()); err != nil {
		return "", err
	}
	return aside, s.fsys.SyncDir(filepath.Dir(file))
}
