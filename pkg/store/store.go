// Package store keeps what is left of builds: their records and consoles, the
// contents that scripts and artifacts are, and an index to find them by. It also
// serves the results that the reference left in the same directory. It knows no
// schedule, no worker and no connection.
//
//	<dir>/v1/builds/<job>/<uuid>/record         the build; there when it is complete
//	                             console        its console, see package console
//	                             console.index
//	                             pinned         see Pin
//	                             pruned         its artifacts are gone, see Prune
//	                             uploaded       a frontend has it
//	<dir>/v1/builds/<job>/<uuid>.removed/       what is left of one that a Prune removes
//	<dir>/v1/content/<aa>/<sha256>              octets by their hash, each once
//	<dir>/v1/tmp/<n>                            contents that are being received
//	             <uuid>-<sha256>-<size>         those offered for a build, whole or in part
//	<dir>/v1/ahead/                             a journal of the builds whose own files are
//	                                            not synced yet, see writeAhead
//	<dir>/v1/index.sqlite                       a cache of the records
//	<dir>/<job>/<uuid>/full                     a result of the reference
//
// The one invariant: the record of a build that was committed is complete, and
// everything that it names is durable, or lies in a store elsewhere that keeps it.
// Of a commit that was under way when the
// power was cut anything may be left but a record without its contents; whoever
// knows which builds have not finished asks [Store.Recorded] whether they have.
// Record and console of a committed build are never changed again: what is said about
// it later are marks, empty files beside them. Only [Store.Prune] removes anything.
//
// A record is a file of
//
//	offset  octets  field
//	     0       8  magic    "builder\n"
//	     8       4  version  1, big-endian
//	    12       n  body     DER: SEQUENCE { build Build, console SEQUENCE {
//	                         lines, octets INTEGER } }, Build as in package job
//	  12+n       4  sum      CRC32C over all before it, big-endian
//
// A job's directory is named as the job if [job.CheckName] allows that name, else
// by an encoding of it that can be undone (see names.go).
//
// The index is rebuilt from the records when it is missing, damaged or of another
// version, and brought up to date at each start by comparing names only. It may
// be deleted while the server is stopped. Where the disk does not take it, since it
// is full, say, it is made in memory, and is in its file again after a later start.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"builder/pkg/disk"
	"builder/pkg/job"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// The errors that callers tell apart; what is returned wraps them.
var (
	// ErrNotFound: there is no such build.
	ErrNotFound = errors.New("no such build")
	// ErrAmbiguous: several builds have that prefix; the message names some.
	ErrAmbiguous = errors.New("several builds match")
	// ErrMismatch: octets that came are not those that their hash says.
	ErrMismatch = errors.New("the hash does not match")
	// ErrDamaged: a file is not what was written; the message names it.
	ErrDamaged = errors.New("damaged")
)

// Store is an open data directory. All methods are safe for concurrent use.
type Store struct {
	fsys        disk.FS
	root        string // of the reference's results
	contents    string // directory, with one for each first octet of a hash
	temporaries string // directory: contents on their way
	log         zerolog.Logger
	dirs        *directories
	use         *use
	ahead       *writeAhead
	index       *index
	// justReceived spares OpenChecked what would show nothing.
	justReceived justReceived
	// elsewhere is where artifacts may lie that are not here; nil for nowhere.
	elsewhere Elsewhere
	// unrecorded are our builds that had no record when the Store was opened.
	unrecorded []place
	reading    sync.Mutex // of records, by those who read many
	// received counts the files in tmp, for their names.
	received atomic.Uint64
	// pruning is held by the one Prune, marking by who decides by a build's marks.
	pruning, marking sync.Mutex
	// listed are builds that are gone and still in the index; it belongs to the Prune.
	listed []uuid.UUID
}

// newStore has no index.
func newStore(fsys disk.FS, dir string, log zerolog.Logger) *Store {
	return &Store{
		fsys: fsys, root: dir, contents: filepath.Join(dir, "v1", "content"), temporaries: filepath.Join(dir, "v1", "tmp"),
		log: log, dirs: newDirectories(fsys), use: newUse(), justReceived: justReceived{files: map[job.Content]receivedFile{}},
	}
}

// Open opens the data directory dir: it makes what is missing, removes what was
// received for no build, and brings the index up to date. It leaves alone the
// builds that are unfinished, for which [Store.Recorded] or [Store.Resume] is
// called next; nil says that there are none. There must be no
// other Store on dir. A build whose record is damaged is logged and listed as a
// failed one; it is no error. Everything goes through fsys but the index, which
// SQLite keeps on the file system of the operating system. The caller closes the
// Store, after all drafts.
func Open(fsys disk.FS, dir string, unfinished func(uuid.UUID) bool, log zerolog.Logger) (*Store, error) {
	if unfinished == nil {
		unfinished = func(uuid.UUID) bool { return false }
	}
	s := newStore(fsys, dir, log)
	for _, name := range []string{s.builds(), s.contents, s.temporaries} {
		if err := disk.MkdirAll(fsys, name, 0o755); err != nil {
			return nil, fmt.Errorf("making the store in %s: %w", dir, err)
		}
	}
	if err := s.clearTemporaries(unfinished); err != nil {
		return nil, err
	}
	ahead, err := openAhead(s)
	if err != nil {
		return nil, err
	}
	s.ahead = ahead
	if err := s.openIndex(unfinished); err != nil {
		return nil, errors.Join(err, ahead.close())
	}
	return s, nil
}

// Close writes out the index and closes it. Closing again does nothing.
func (s *Store) Close() error { return errors.Join(s.ahead.close(), s.index.close()) }

func (s *Store) builds() string    { return filepath.Join(s.root, "v1", "builds") }
func (s *Store) indexFile() string { return filepath.Join(s.root, "v1", "index.sqlite") }

// clearTemporaries removes what a process left that died while it received, but
// what came for an unfinished build: that is gone on with. It need not be durable:
// what comes back is removed at the next start.
func (s *Store) clearTemporaries(unfinished func(uuid.UUID) bool) error {
	leftovers, err := s.fsys.ReadDir(s.temporaries)
	if err != nil {
		return fmt.Errorf("removing leftovers: %w", err)
	}
	for _, entry := range leftovers {
		if id, ok := deliveryOf(entry.Name()); ok && unfinished(id) {
			continue
		}
		if err := s.fsys.Remove(filepath.Join(s.temporaries, entry.Name())); err != nil {
			return fmt.Errorf("removing leftovers: %w", err)
		}
	}
	return nil
}

// openIndex opens the index and brings it up to date. One that turns out to be
// unusable is replaced: everything in it comes from the builds. A server that can
// not write it has the more reason to show what there is.
func (s *Store) openIndex(unfinished func(uuid.UUID) bool) error {
	name := s.indexFile()
	err := s.tryIndex(name, unfinished)
	if isUnusable(err) {
		s.log.Warn().Err(err).Msg("index is unusable, rebuilding it from the builds")
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.RemoveAll(name + suffix); err != nil {
				return fmt.Errorf("removing unusable index: %w", err)
			}
		}
		err = s.tryIndex(name, unfinished)
	}
	if isRefused(err) {
		s.log.Error().Err(err).Msg("the disk does not take the index: it is made in memory, until the next start")
		err = s.tryIndex(inMemory, unfinished)
	}
	return err
}

func (s *Store) tryIndex(name string, unfinished func(uuid.UUID) bool) (err error) {
	if s.index, err = openIndex(name, s.log); err != nil {
		return err
	}
	if err := s.update(unfinished); err != nil {
		s.index.close() //nolint:errcheck // the first error is the one to report
		return err
	}
	return nil
}

// origin says who wrote a build.
type origin int

const (
	ours   origin = 1
	theirs origin = 2
)

// place is where a build lies.
type place struct {
	origin origin
	job    string // the name of the job's directory
	id     uuid.UUID
}

// dir is the directory of the build at p.
func (s *Store) dir(p place) string {
	if p.origin == ours {
		return filepath.Join(s.builds(), p.job, p.id.String())
	}
	return filepath.Join(s.root, p.job, p.id.String())
}
