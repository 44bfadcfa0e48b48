package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// indexVersion is the version of the schema; an index of another one is rebuilt.
const indexVersion = 3

// unhurried is for all that is asked of SQLite: a cache on the local disk answers
// sooner than anybody gives up.
var unhurried = context.Background()

// index is the SQLite database. Rows are written behind the back of whoever adds
// them, many in one transaction; whoever reads writes first what is still
// waiting. So an added row costs nothing and is found at once.
type index struct {
	db      *sql.DB
	log     zerolog.Logger
	closing chan struct{} // closed when nothing is added any more
	wake    chan struct{} // holds one element when rows wait; closed to end the writer
	done    chan struct{}

	writing sync.Mutex // one transaction at a time

	mu      sync.Mutex
	waiting []row
	// unlisted are the builds with many artifacts, of which not all are written.
	// These come behind all that waits: they delay nobody who asks for builds.
	unlisted []row
	closed   bool
}

// inMemory is the name of an index that is in no file.
const inMemory = ":memory:"

func openIndex(name string, log zerolog.Logger) (*index, error) {
	// With a write-ahead log a power cut loses transactions, which the next
	// start makes up for, but damages nothing, and commits need no sync.
	source := "file:" + (&url.URL{Path: name}).EscapedPath() +
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(10000)"
	connections := 4
	if name == inMemory {
		source, connections = name+"?_pragma=temp_store(MEMORY)", 1 // each would have a database of its own
	} else if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		// On a file system that is not the operating system's, which tests use, the
		// directory is not there.
		return nil, fmt.Errorf("opening index: %w", err)
	}
	db, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, fmt.Errorf("opening index %s: %w", name, err)
	}
	db.SetMaxOpenConns(connections)
	if err := prepare(db); err != nil {
		return nil, fmt.Errorf("opening index %s: %w", name, errors.Join(err, db.Close()))
	}
	x := &index{db: db, log: log, wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go x.write()
	return x, nil
}

// errVersion says that an index was made by another version of this program.
var errVersion = errors.New("index of another version")

// prepare makes the schema, or checks what is there.
func prepare(db *sql.DB) error {
	var version, tables int
	if err := db.QueryRowContext(unhurried, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := db.QueryRowContext(unhurried, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if version == 0 && tables == 0 {
		_, err := db.ExecContext(unhurried, "BEGIN;"+schema+fmt.Sprintf("PRAGMA user_version = %d; COMMIT", indexVersion))
		return err
	}
	if version != indexVersion {
		return fmt.Errorf("%w: %d", errVersion, version)
	}
	var found string
	if err := db.QueryRowContext(unhurried, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, found)
	}
	return nil
}

// isUnusable reports whether err says that the index must be made anew.
func isUnusable(err error) bool {
	if errors.Is(err, errVersion) || errors.Is(err, ErrDamaged) {
		return true
	}
	// The last is what a schema that is not ours gives.
	return hasCode(err, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
}

// isRefused reports whether err says that the disk is the reason.
func isRefused(err error) bool {
	return hasCode(err, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
}

// hasCode reports whether err is SQLite's, and one of these.
func hasCode(err error, codes ...int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && slices.Contains(codes, e.Code()&0xff)
}

// add adds a row, soon.
func (x *index) add(r row) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = append(x.waiting, r)
	if x.closed {
		return // the next start finds it
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// gatherTime is how long rows wait for others to share their transaction, which
// costs as much as many rows. Readers do not wait for it.
const gatherTime = time.Second

// write writes what is added until wake is closed.
func (x *index) write() {
	defer close(x.done)
	for range x.wake {
		select {
		case <-time.After(gatherTime):
		case <-x.closing:
		}
		if err := x.flushAll(); err != nil {
			// Whoever reads tries again, as does the next one that adds.
			x.log.Error().Err(err).Msg("writing index")
		}
	}
}

// flush writes the rows that wait. They go on waiting until they are written, so that
// others find them.
func (x *index) flush() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.mu.Lock()
	rows := x.waiting
	x.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	err := x.change(func(exec execution) error {
		for _, r := range rows {
			if err := exec(insert, r.values()...); err != nil {
				return err
			}
			if len(r.hashes) > fewArtifacts {
				continue
			}
			if err := r.list(exec, r.hashes); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing index: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = slices.Clone(x.waiting[len(rows):]) // what was added meanwhile
	for _, r := range rows {
		if len(r.hashes) > fewArtifacts {
			x.unlisted = append(x.unlisted, r)
		}
	}
	return nil
}

const (
	// fewArtifacts are written with their build.
	fewArtifacts = 100
	// someArtifacts are written at once of a build that has more.
	someArtifacts = 2000
)

// list writes artifacts of r. One statement takes them all, as JSON: each costs
// more than a few rows.
func (r row) list(exec execution, hashes []int64) error {
	if len(hashes) == 0 {
		return nil
	}
	list := []byte{'['}
	for _, hash := range hashes {
		list = append(strconv.AppendInt(list, hash, 10), ',')
	}
	list[len(list)-1] = ']'
	return exec(insertArtifacts, nanoseconds(r.build.Started), string(list))
}

// flushAll writes the rows that wait and all of their artifacts.
func (x *index) flushAll() error {
	for {
		if err := x.flush(); err != nil {
			return err
		}
		if more, err := x.flushSome(); err != nil || !more {
			return err
		}
	}
}

// flushSome writes some artifacts of one build, and reports whether there was one
// that had any to be written.
func (x *index) flushSome() (more bool, err error) {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.mu.Lock()
	unlisted := x.unlisted
	x.mu.Unlock()
	if len(unlisted) == 0 {
		return false, nil
	}
	r := unlisted[0]
	some := r.hashes[:min(someArtifacts, len(r.hashes))]
	last := len(some) == len(r.hashes)
	err = x.change(func(exec execution) error {
		if err := r.list(exec, some); err != nil || !last {
			return err
		}
		return exec(setWhole, r.place.id[:])
	})
	if err != nil {
		return false, fmt.Errorf("writing index: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if last {
		x.unlisted = x.unlisted[1:]
	} else {
		x.unlisted[0].hashes = r.hashes[len(some):]
	}
	return true, nil
}

// execution runs a statement in a transaction.
type execution func(statement string, args ...any) error

// change runs statements, each perhaps many times, in one transaction.
func (x *index) change(body func(execution) error) error {
	tx, err := x.db.BeginTx(unhurried, nil)
	if err != nil {
		return err
	}
	prepared := map[string]*sql.Stmt{}
	err = body(func(statement string, args ...any) error {
		if prepared[statement] == nil {
			p, err := tx.PrepareContext(unhurried, statement)
			if err != nil {
				return err
			}
			prepared[statement] = p
		}
		_, err := prepared[statement].ExecContext(unhurried, args...)
		return err
	})
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// remove removes builds that are gone. Their artifacts stay until sweep.
func (x *index) remove(ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.change(func(exec execution) error {
		for _, id := range ids {
			if err := exec("DELETE FROM builds WHERE uuid = ?", id[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweep removes the artifacts of builds that are not there any more, which does
// not haste: they lead nowhere.
func (x *index) sweep() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.change(func(exec execution) error {
		return exec("DELETE FROM artifacts WHERE started NOT IN (SELECT started FROM builds)")
	})
}

// close writes what waits and closes the database. Closing again does nothing.
func (x *index) close() error {
	x.mu.Lock()
	closed := x.closed
	x.closed = true
	x.mu.Unlock()
	if closed {
		return nil
	}
	close(x.closing)
	close(x.wake)
	<-x.done
	return errors.Join(x.flushAll(), x.db.Close())
}
