package store

import (
	"encoding/binary"
	"maps"
	"sync"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// contentKey stands for a content where there may be millions of them: the first
// octets of its hash. Of two contents that share one, neither is removed while
// either is needed.
type contentKey uint64

func keyOf(c job.Content) contentKey { return contentKey(binary.BigEndian.Uint64(c.SHA256[:])) }

// use knows the contents that are needed though no record names them yet, and the
// builds that are being made.
//
// Who is about to name a content holds it first, and looks whether it is there
// after that. A sweep removes a content only while nobody can begin to hold it, and
// none that was held at any time since the sweep began: whoever held it may have
// written a record meanwhile that the sweep has not read.
type use struct {
	mu     sync.Mutex
	holds  map[*hold]bool
	drafts map[uuid.UUID]int
	// held is nil unless contents are swept: what was held since that began.
	held map[contentKey]bool
}

func newUse() *use { return &use{holds: map[*hold]bool{}, drafts: map[uuid.UUID]int{}} }

// hold is what one draft, or one PutHeld, needs.
type hold struct {
	use  *use
	id   uuid.UUID // of the draft, or zero
	keys map[contentKey]bool
}

func (u *use) hold() *hold { return u.draft(uuid.Nil) }

// draft holds for a build that is being made.
func (u *use) draft(id uuid.UUID) *hold {
	u.mu.Lock()
	defer u.mu.Unlock()
	h := &hold{use: u, id: id, keys: map[contentKey]bool{}}
	u.holds[h] = true
	u.drafts[id]++
	return h
}

// drafting reports whether the build is being made.
func (u *use) drafting(id uuid.UUID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.drafts[id] > 0
}

// add holds c, which need not be there.
func (h *hold) add(c job.Content) {
	h.use.mu.Lock()
	defer h.use.mu.Unlock()
	h.keys[keyOf(c)] = true
	if h.use.held != nil {
		h.use.held[keyOf(c)] = true
	}
}

// release ends the hold. Releasing again does nothing.
func (h *hold) release() {
	u := h.use
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.holds[h] {
		return
	}
	delete(u.holds, h)
	if u.drafts[h.id]--; u.drafts[h.id] == 0 {
		delete(u.drafts, h.id)
	}
}

// holdsContent holds c and reports whether it is there: then it stays.
func (s *Store) holdsContent(h *hold, c job.Content) bool {
	h.add(c)
	return s.HasContent(c)
}

// beginSweep begins to remember what is held.
func (u *use) beginSweep() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = map[contentKey]bool{}
	for h := range u.holds {
		maps.Copy(u.held, h.keys)
	}
}

func (u *use) endSweep() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = nil
}

// sweep calls remove unless the content was held since beginSweep, and reports
// whether it did.
func (u *use) sweep(k contentKey, remove func() error) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held[k] {
		return false, nil
	}
	return true, remove()
}
