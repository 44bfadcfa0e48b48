package sandbox

import (
	"os"
	"path/filepath"
	"time"

	"builder/pkg/disk"

	"golang.org/x/sys/unix"
)

// untold is how long after it was made a change of a directory may not be told from
// its making: where times are not exact they are those of the kernel's clock tick.
const untold = 20 * time.Millisecond

// exactTimes reports whether a change of a directory in root is always seen by its
// times once they were asked for: Linux does so since 6.13, on most file systems.
func exactTimes(root string) bool {
	for range 3 { // once a tick may have come between
		dir := filepath.Join(root, newName("probe"))
		if os.Mkdir(dir, 0o700) != nil {
			return false
		}
		was := lastChange(dir)
		changed := os.Chmod(dir, 0o500) == nil && lastChange(dir) != was
		if os.Remove(dir) != nil || !changed {
			return false
		}
	}
	return true
}

// spare is a directory with the directories of a place that is not used. A place is
// made of it by giving it another name.
//
// A build gets directories in which nothing was ever made: new ones, or those of a
// build before that has not touched them. That is seen by their times, which nobody
// can set. Making and removing directories costs more than all else that is done for a
// short build, most of all where the file system looks at each inode that was removed
// lately before it hands one out (ext4 without a journal).
type spare struct {
	name  string // in the root
	top   look
	parts [3]untouched // output, home, temp; zero where that is not known
}

// untouched tells a directory in which nothing was changed since.
type untouched struct {
	device, inode uint64
	changed       time.Time
}

// makeSpare makes a spare place.
func (p *Plain) makeSpare() (spare, error) {
	s := spare{name: newName("spare")}
	p.use(s.name)
	pl := newPlace(p, s.name, Spec{})
	for _, dir := range append([]string{pl.dir}, pl.parts()...) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			p.drop(s)
			return spare{}, err
		}
	}
	if p.fence == nil { // else no place is used again
		s.look(pl)
	}
	return s, nil
}

// look remembers what the place is like when it is new.
func (s *spare) look(pl *place) {
	var ok bool
	if s.top, ok = lookAt(pl.dir); !ok {
		return
	}
	for i, dir := range pl.parts() {
		s.parts[i] = lastChange(dir)
	}
}

// asNew reports whether the directories of the place that was made of s are as they
// were then, without its script.
func (s *spare) asNew(pl *place) bool {
	for i := range s.parts {
		if !s.untouched(pl, i) {
			return false
		}
	}
	top, ok := lookAt(pl.dir)
	return ok && top == s.top
}

// untouched reports whether one of the parts was not changed since the place is used,
// nor anything in it.
func (s *spare) untouched(pl *place, part int) bool {
	was := s.parts[part]
	told := pl.sandbox.exact || pl.used.Sub(was.changed) >= untold
	return told && was != (untouched{}) && lastChange(pl.parts()[part]) == was
}

// drop removes a spare. What can not be removed is found by the next Sweep.
func (p *Plain) drop(s spare) {
	remove(filepath.Join(p.root, s.name)) //nolint:errcheck // as said
	p.forget(s.name)
}

// spare takes a spare, or makes one.
func (p *Plain) spare() (spare, error) {
	p.mu.Lock()
	if n := len(p.spares); n > 0 {
		s := p.spares[n-1]
		p.spares = p.spares[:n-1]
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	return p.makeSpare()
}

// stock makes what is spare for the next build. When that fails the next build
// makes its own, and tells if that fails too.
func (p *Plain) stock() {
	p.mu.Lock()
	enough := p.closed || len(p.spares) >= p.slots
	p.mu.Unlock()
	if enough {
		return
	}
	if s, err := p.makeSpare(); err == nil {
		p.keepSpare(s)
	}
}

// keepSpare keeps a spare for a later build, unless p was closed.
func (p *Plain) keepSpare(s spare) {
	p.mu.Lock()
	keep := !p.closed
	if keep {
		p.spares = append(p.spares, s)
	}
	p.mu.Unlock()
	if !keep {
		p.drop(s)
	}
}

// reuse makes a spare of a place that is over, if it is as good as a new one.
func (p *Plain) reuse(pl *place) bool {
	p.mu.Lock()
	// Those of a build, and of the one that is prepared beside it.
	wanted := !p.closed && p.fence == nil && len(p.spares) < 2*p.slots
	p.mu.Unlock()
	if !wanted {
		return false
	}
	unix.Unlink(pl.script()) //nolint:errcheck // it is seen if it is still there
	if !pl.spare.asNew(pl) {
		return false
	}
	s := pl.spare
	s.name = newName("spare")
	p.use(s.name)
	if disk.RenameNew(pl.dir, filepath.Join(p.root, s.name)) != nil {
		p.forget(s.name)
		return false
	}
	p.keepSpare(s)
	return true
}
