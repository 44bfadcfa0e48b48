package journal

import (
	"errors"
	"fmt"
	"io/fs"

	"builder/pkg/disk"
)

// maxReads is how often Read begins anew, since the owner compacts meanwhile.
const maxReads = 20

// Read returns the state in dir, and changes nothing: not even a torn write is cut
// off. It may be called while the journal is open in another process: the state has
// all batches then whose Append had returned nil before, and perhaps more, the last
// of which may still be refused. When dir does not exist the error is an
// fs.ErrNotExist; one that is a *DamageError was found twice at the same place.
func Read[S State](fsys disk.FS, dir string, empty func() S) (S, error) {
	var (
		none S
		last *DamageError
		err  error
	)
	if _, err := fsys.ReadDir(dir); err != nil {
		return none, fmt.Errorf("reading journal: %w", err)
	}
	for range maxReads {
		state := empty()
		if _, err = (directory{fsys, dir}).load(state.Apply, nil); err == nil {
			return state, nil
		}
		// A file that was listed may have gone when it is opened; and a batch whose
		// end was not there yet looks bad when there is another one behind it.
		var damage *DamageError
		switch {
		case errors.As(err, &damage):
			if last != nil && last.File == damage.File && last.Offset == damage.Offset {
				return none, err
			}
			last = damage
		case !errors.Is(err, fs.ErrNotExist):
			return none, err
		}
	}
	return none, err
}
