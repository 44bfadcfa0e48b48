package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"builder/pkg/disk"
	"builder/pkg/journal"

	"github.com/google/uuid"
)

const (
	// maxAhead bounds a build that is written ahead: of a larger one the syncs of its
	// files are not what takes the time.
	maxAhead = 16 << 10
	// aheadSize is from how many octets on the log is dropped. All that is in it is
	// looked at when a Store is opened.
	aheadSize = 1 << 20
	// maxGroup bounds the octets that are synced together, since a batch of the
	// journal has a limit, too.
	maxGroup = 8 << 20
	// maxPending bounds the log where it can not be dropped, or only slowly. Builds are
	// synced one by one then.
	maxPending = 16 << 20
	// aheadRest is how long the disk is left alone that did not let the log be dropped.
	aheadRest = 10 * time.Second
)

// writeAhead is the write-ahead log of committed builds: with one sync it makes several
// small ones durable, whose own files are synced much later, all at once, by a barrier.
// When the power fails before that, they are made anew from it.
//
//	begin --> files written --add--> in the log --settle--> its files are durable, out of the log
//
// Where the system has no barrier nothing is added.
type writeAhead struct {
	store   *Store
	journal *journal.Journal[*recent] // nil where there is no barrier

	// commits is held for reading by who writes and adds a build, and for writing by
	// who changes the barrier: each build lies within one.
	commits sync.RWMutex
	barrier disk.Barrier // nil if there is none
	// generation counts the barriers, from 1. A build may be added if all its files
	// were opened in the present one.
	generation atomic.Uint64

	writing sync.Mutex // the journal

	mu      sync.Mutex
	next    *group              // it is not written yet; nil if there is none
	pending map[uuid.UUID]entry // in the log
	octets  int                 // of them
	busy    bool                // it settles by itself
	resting time.Time           // it does not before then

	settling   sync.Mutex
	settled    map[uuid.UUID]entry // of the one settling: their files are durable
	background sync.WaitGroup
}

// group is some entries that are written and synced together.
type group struct {
	records [][]byte
	octets  int
	done    chan struct{}
	err     error // once done is closed
}

// openAhead opens the log of the store, and makes the builds whole that are in it.
func openAhead(s *Store) (*writeAhead, error) {
	a := &writeAhead{store: s, pending: map[uuid.UUID]entry{}}
	if err := a.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the log of committed builds: %w", err), a.release())
	}
	return a, nil
}

// open opens the barrier and the journal. A disk that refuses one of them shall not
// keep the Store from being opened, as long as all builds are whole.
func (a *writeAhead) open() error {
	s := a.store
	barrier, err := s.fsys.OpenBarrier(s.builds())
	if err == nil {
		a.barrier = barrier
	} else if !errors.Is(err, disk.ErrNoBarrier) {
		s.log.Error().Err(err).Msg("builds are synced one by one, until the next start")
	}
	if a.barrier == nil {
		if _, err := s.fsys.Stat(s.aheadDir()); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	entries, err := a.openJournal()
	if err != nil {
		return err
	}
	for id, e := range entries {
		if !e.whole(s) {
			s.log.Warn().Stringer("build", id).Msg("build is made whole again from the log")
			if err := e.write(s); err != nil {
				return fmt.Errorf("making build %v whole: %w", id, err)
			}
		}
		e.doubtful = true
		a.pending[id] = e
		a.octets += e.size()
	}
	switch {
	case a.journal == nil:
	case a.barrier != nil:
		a.generation.Store(1)
	default:
		if err := a.leave(); err != nil {
			s.log.Error().Err(err).Msg("the log of committed builds stays, until the next start")
		}
	}
	return nil
}

// openJournal opens the journal, or reads it only, if the disk refuses more.
func (a *writeAhead) openJournal() (map[uuid.UUID]entry, error) {
	s := a.store
	empty := func() *recent { return newRecent(a.settled) }
	opened, found, err := journal.Open(s.fsys, s.aheadDir(), empty, journal.Options{SegmentSize: aheadSize})
	var damage *journal.DamageError
	switch {
	case err == nil:
		a.journal = opened
		return found.entries, nil
	case errors.As(err, &damage):
		return nil, fmt.Errorf("%w; it is needed after a power cut only: move %s away, start again, and verify the builds", err, s.aheadDir())
	}
	s.log.Error().Err(err).Msg("builds are synced one by one, until the next start")
	return s.readAhead()
}

// leave ends the log where there was a barrier once and is none any more.
func (a *writeAhead) leave() error {
	for _, e := range a.pending {
		if err := errors.Join(e.write(a.store), e.sync(a.store)); err != nil {
			return err
		}
	}
	err := a.compact(a.pending)
	if err == nil {
		clear(a.pending)
	}
	err = errors.Join(err, a.journal.Close())
	a.journal = nil
	return err
}

func (s *Store) aheadDir() string { return filepath.Join(s.root, "v1", "ahead") }

// readAhead reads the log, which another process may be writing.
func (s *Store) readAhead() (map[uuid.UUID]entry, error) {
	found, err := journal.Read(s.fsys, s.aheadDir(), func() *recent { return newRecent(nil) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the log of committed builds: %w", err)
	}
	return found.entries, nil
}

// begin says in which generation a build begins, before it opens a file.
func (a *writeAhead) begin() (generation uint64) { return a.generation.Load() }

// commit calls write and then adds the entry, if a build of that generation may still be
// added. After an error it is not in the log, unless that is [journal.ErrUnknown].
func (a *writeAhead) commit(generation uint64, e entry, write func() error) (ok bool, err error) {
	a.commits.RLock()
	defer a.commits.RUnlock()
	if generation == 0 || generation != a.generation.Load() || a.full() {
		return false, nil
	}
	if err := write(); err != nil {
		return true, err
	}
	if err := a.add(e); err != nil {
		return true, fmt.Errorf("writing the log of committed builds: %w", err)
	}
	return true, nil
}

// add adds an entry, with those that come meanwhile.
func (a *writeAhead) add(e entry) error {
	record := e.encode()
	a.mu.Lock()
	g, first := a.next, false
	if g == nil || g.octets+len(record) > maxGroup {
		g, first = &group{done: make(chan struct{})}, true
		a.next = g
	}
	g.records = append(g.records, record)
	g.octets += len(record)
	a.mu.Unlock()
	if first {
		a.write(g)
	}
	<-g.done
	if g.err != nil {
		return g.err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending[e.place.id] = e
	a.octets += e.size()
	return nil
}

func (a *writeAhead) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.octets >= maxPending
}

// write writes a group when the one before it is durable.
func (a *writeAhead) write(g *group) {
	defer close(g.done)
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	if a.next == g {
		a.next = nil
	}
	a.mu.Unlock()
	g.err = a.journal.Append(g.records...)
	if a.journal.CompactDue() { // asked here: it waits for an Append
		a.settleSoon()
	}
}

// certain makes sure that an entry is not in the log whose outcome was unknown.
func (a *writeAhead) certain() error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if a.journal == nil {
		return nil
	}
	return a.journal.Recover()
}

// has reports whether a build is in the log.
func (a *writeAhead) has(id uuid.UUID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.pending[id]
	return ok
}

// record is the record of a build that the log makes durable: its files were made whole
// at the start.
func (a *writeAhead) record(p place) (data []byte, ok bool) {
	if a.journal == nil { // it could only be read
		return nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.pending[p.id]
	return e.record, ok && e.place == p
}

// close settles what is in the log, since who removes a build by hand while nothing
// runs does not want it back, and closes it. Closing again does nothing.
func (a *writeAhead) close() error {
	a.background.Wait()
	err := a.certain()
	if a.journal != nil && len(a.pending) > 0 {
		a.settleLogged()
	}
	return errors.Join(err, a.release())
}

func (a *writeAhead) release() error {
	var errs []error
	if a.barrier != nil {
		errs = append(errs, a.barrier.Close())
		a.barrier = nil
	}
	if a.journal != nil {
		errs = append(errs, a.journal.Close())
		a.journal = nil
	}
	return errors.Join(errs...)
}
