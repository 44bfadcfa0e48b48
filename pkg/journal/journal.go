// Package journal keeps a state on disk: durable append and snapshot of records
// that it never looks into. It knows no job.
//
// Its one invariant: a record is part of the state that [Open] returns after any
// end of process, system or power exactly if its Append returned nil; of the one
// batch that was under way, either.
//
// # Files
//
// A journal is one directory. Numbers are batch numbers, in 16 hex digits.
//
//	journal-<first>    a segment: the batches from <first> on; only the newest one grows
//	snapshot-<last>    the state after batch <last>; always beside journal-<last+1>
//	*.tmp              not complete, removed by Open
//
// Every file begins with a header; integers are big endian, checksums CRC-32C:
//
//	offset  octets
//	0       8       "BJOURNAL" or "BSNAPSHT"
//	8       4       version of the format, 1
//	12      16      salt: random, makes what this file holds unlike any other octets
//	28      8       segment: its first batch; snapshot: the last batch in it
//	36      8       segment: the offset at which the segment before it ends; snapshot: 0
//	44      4       checksum of the above
//
// Behind it come batches, and nothing else:
//
//	0       4       length of the body
//	4       8       segment: number of the batch; snapshot: 1, 2, 3, ..., 0 in the end mark
//	12      4       checksum of salt and body
//	16      4       checksum of salt and the above
//	20              body: records, each as length (4 octets) and octets
//
// The end mark of a snapshot has the count of its records (8 octets) as its body.
// Without the salt, which nobody outside knows, a record can not hold what looks
// like a batch of its file.
//
// # What is a torn write, and what is damage
//
// A file gets its name when its header is on disk, so a bad header is damage. In
// the newest segment, a bad batch with no batch header behind it is a torn write
// and is cut off. (A bit flipped in the last batch looks the same: nothing can tell
// them apart.) Everything else that is not as written is damage: Open returns a
// [DamageError] and changes nothing. A snapshot is all there or damaged, and is
// then not passed over for an older one.
//
// # Crash points
//
// What the disk may hold, and what Open makes of it. S is the newest snapshot, A
// the newest segment with batches up to n, B the new segment with first batch n+1.
//
//	during                 on disk                       Open
//	Append, before sync    A, any part of batch n+1      all of n+1 if it is whole (written once more and
//	                                                     synced before anyone hears of it), else cut off
//	cutting off a          the same                      the same: the change was not refused yet
//	refused batch
//	... has failed         the same                      the same: the answer was "unknown"
//	making a directory     missing, or empty             an empty state; nothing was acknowledged
//	opening B              A, perhaps B.tmp              as if B had not been begun
//	... B renamed          A and B                       A up to the offset in B's header, then B
//	Compact, before the    A and B, S                    S, A, B
//	new snapshot's rename
//	... renamed            S and new snapshot, A and B   the new snapshot, B; older files are removed
//	... removing           any of the older files        the same
//	Open itself            as before it                  the same: it cuts, rewrites and removes only
//	                                                     what no longer counts or stays the same
//
// The offset in B's header is what makes the second and third line safe: a batch
// that was written, could not be synced and could not be cut off stays in A, whole
// perhaps, and is told as "unknown". As soon as B exists it lies behind the end of
// A and is never read. So no snapshot is needed to begin anew, and B may replace
// itself: when it has no batch yet, a new B takes its name in one rename.
//
// When opening B fails, B may or may not be found later, so A must not grow any
// more: the journal is read-only until a B is there for certain.
package journal

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"

	"builder/pkg/disk"
)

// ErrUnknown says that a batch could neither be made durable nor be removed: it
// may be there after a restart, or not.
var ErrUnknown = errors.New("outcome unknown")

// ErrReadOnly says that nothing was written, since the disk did not take a new
// segment. Every later Append tries again.
var ErrReadOnly = errors.New("journal is read-only")

// State is what records build up.
type State interface {
	// Apply does one record. It must be deterministic, and must not keep the
	// slice. An error means that the record can not have been appended to this
	// state: it is reported as damage.
	Apply(record []byte) error
	// Snapshot yields records that, applied in order to an empty state, give an
	// equal one. Each slice is used before the next is asked for.
	Snapshot() iter.Seq[[]byte]
}

// Options are what may differ between journals; the zero value is usable.
type Options struct {
	// SegmentSize is the size in octets from which CompactDue says so, unless
	// the last snapshot is larger; 0 means 4 MiB.
	SegmentSize int64
	// Cut hears from Open of a torn write that was cut off a segment; may be nil.
	Cut func(file string, offset, octets int64)
}

// Journal is an open journal. Append, Reload, Recover and Close belong to one
// goroutine, the owner of the state; the other methods may be called beside them.
type Journal[S State] struct {
	dir     directory
	empty   func() S
	options Options

	compacting sync.Mutex   // one compaction at a time
	files      sync.RWMutex // held to read files that may be obsolete, and to remove them

	mu           sync.Mutex // guards what follows; held for one write, one sync
	active       *segment
	seq          uint64 // the last synced batch
	snapshot     uint64 // the last batch in the newest snapshot
	snapshotSize int64
	broken       error // why active must not grow; nil when it may
	closed       bool
	buffer       []byte
}

// Open reads the journal in dir, which is made when it does not exist, and
// returns it with the state after its last batch. Whoever calls it holds the
// lock of the directory. empty makes an empty state; Compact calls it too, from
// the goroutine it is called in. An error that is a *DamageError means that dir
// is as it was before.
func Open[S State](fsys disk.FS, dir string, empty func() S, options Options) (*Journal[S], S, error) {
	var none S
	d := directory{fsys, dir}
	if options.SegmentSize == 0 {
		options.SegmentSize = 4 << 20
	}
	if err := disk.MkdirAll(fsys, dir, 0o755); err != nil {
		return nil, none, fmt.Errorf("opening journal: %w", err)
	}
	state := empty()
	found, err := d.load(state.Apply, nil)
	if err != nil {
		return nil, none, err
	}
	active, err := d.resume(found)
	if err != nil {
		return nil, none, fmt.Errorf("opening journal: %w", err)
	}
	if cut := found.last.size - found.last.end; cut > 0 && options.Cut != nil {
		options.Cut(d.segment(found.last.header.seq), found.last.end, cut)
	}
	return &Journal[S]{
		dir: d, empty: empty, options: options,
		active: active, seq: found.seq, snapshot: found.snapshot, snapshotSize: found.snapshotSize,
	}, state, nil
}

// Append writes the records as one batch: after it all of them are part of the
// state, or none. Nil means that they are durable. On an error the state on disk
// is the one before, unless the error is [ErrUnknown]; in any case an owner that
// has applied the records already goes on with the state from Reload. errors.Is
// finds the cause (syscall.ENOSPC) in the error. A batch is limited to 16 MiB
// with 4 octets added to each record.
func (j *Journal[S]) Append(records ...[]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ready(); err != nil {
		return err
	}
	if len(records) == 0 {
		return nil
	}
	batch, err := j.encode(records)
	if err != nil {
		return fmt.Errorf("appending to journal %s: %w", j.dir.path, err)
	}
	if _, err := j.active.file.Write(batch); err != nil {
		return j.refuse(err)
	}
	if err := j.active.file.Sync(); err != nil {
		return j.refuse(err)
	}
	j.seq++
	j.active.size += int64(len(batch))
	return nil
}

// ready makes the journal fit for a batch. The caller holds mu.
func (j *Journal[S]) ready() error {
	if j.closed {
		return fmt.Errorf("journal %s: %w", j.dir.path, os.ErrClosed)
	}
	if j.broken == nil {
		return nil
	}
	if err := j.begin(); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return nil
}

func (j *Journal[S]) encode(records [][]byte) ([]byte, error) {
	b := newBatch(j.buffer)
	for _, record := range records {
		if err := b.add(record); err != nil {
			return nil, err
		}
	}
	j.buffer = b.octets
	if cap(j.buffer) > 1<<20 {
		j.buffer = nil // one large batch is no reason to hold its memory for ever
	}
	return b.seal(j.active.seed(), j.seq+1), nil
}

// refuse removes a batch that could not be written or synced. Syncing it once
// more would prove nothing: after a failed sync the system may hold for written
// what is not.
func (j *Journal[S]) refuse(cause error) error {
	cause = fmt.Errorf("appending to journal: %w", cause)
	if err := j.active.cutBack(); err != nil {
		j.broken = err
		return fmt.Errorf("%w: %w; and removing it: %w", ErrUnknown, cause, err)
	}
	return cause
}

// begin makes a new segment the active one. From its start on until it has
// succeeded the present segment must not grow: its end may already be on disk,
// in the header of the new one. The caller holds mu.
func (j *Journal[S]) begin() error {
	h := header{magic: segmentMagic, seq: j.seq + 1, end: j.active.size}
	if j.active.size == headerSize {
		h.end = j.active.end // the new one takes the place of the present one
	}
	next, err := j.dir.create(h)
	if err != nil {
		j.broken = err
		return err
	}
	j.active.file.Close() // all that counts in it is synced
	j.active, j.broken = next, nil
	return nil
}

// Recover makes the journal writable again when an Append has found it
// read-only or its outcome was unknown; that batch is then certain not to be
// part of the state. Append does the same by itself. Nil means that the journal
// takes batches.
func (j *Journal[S]) Recover() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ready()
}

// Reload reads the state back from disk, up to the last batch whose Append
// returned nil.
func (j *Journal[S]) Reload() (S, error) {
	var none S
	j.files.RLock()
	defer j.files.RUnlock()
	j.mu.Lock()
	to := position{j.seq, j.active.size}
	if j.active.size == headerSize {
		to.end = j.active.end // the last batch is in the segment before
	}
	j.mu.Unlock()
	state := j.empty()
	if _, err := j.dir.load(state.Apply, &to); err != nil {
		return none, err
	}
	return state, nil
}

// Seq is the number of the last batch whose Append returned nil. The first one
// has the number 1.
func (j *Journal[S]) Seq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// Close waits for a Compact that is under way and closes the journal. There is
// nothing left to write.
func (j *Journal[S]) Close() error {
	j.compacting.Lock()
	defer j.compacting.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return j.active.file.Close()
}
