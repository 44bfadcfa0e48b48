package worker

import (
	"errors"

	"builder/pkg/disk"
)

// spares are the files of spools that are gone, for builds to come: a file costs less
// to be emptied and renamed than to be removed and made. They stay open, and have the
// names of their builds:
//
//	stored ──▸ give: emptied ──▸ take: renamed to another build's ──▸ written
//
// A worker that is killed leaves an empty file then: no build, as if one had not
// begun. A power cut may undo the emptying and not the renaming, where the file system
// does not keep their order: so a spool says whose it is.
type spares chan *records

// maxSpare is how long a file may have been: of a longer one most of the cost is to free
// what it held, either way.
const maxSpare = 1 << 20

// take returns an empty file of that name, which must not exist.
func (s spares) take(name string) (*records, error) {
	select {
	case r := <-s:
		if disk.RenameNew(r.name, name) == nil {
			r.name = name
			return r, nil
		}
		r.remove() //nolint:errcheck // it may be gone; else the next worker removes it
	default:
	}
	return createRecords(name)
}

// give takes the file of a spool that nobody needs any more, as long as there are too
// few. It reports false if the caller has to remove it.
func (s spares) give(r *records) bool {
	if len(s) == cap(s) || r.end > maxSpare || r.cut(0) != nil {
		return false
	}
	select {
	case s <- r:
		return true
	default:
		return false
	}
}

// close removes what was not taken.
func (s spares) close() error {
	var failures []error
	for len(s) > 0 {
		failures = append(failures, (<-s).remove())
	}
	return errors.Join(failures...)
}
