package disktest

import "errors"

// Op is a kind of operation.
type Op int

// The kinds of operations. OpAny is all that may change something on the disk:
// all but OpRead, so opening a file to read counts, reading it does not.
const (
	OpAny Op = iota
	OpOpen
	OpWrite
	OpSync
	OpRename
	OpSyncDir
	OpTruncate
	OpRemove
	OpMkdir
	OpBarrier // its Sync
	OpRead    // Read, ReadAt, Seek, Stat, ReadDir
)

// ErrPowerCut is the error of every operation from the power cut on.
var ErrPowerCut = errors.New("power cut")

// Fault makes operations fail. A write that fails has written any prefix, a sync
// that fails has made any part durable; every other operation that fails has
// done nothing.
type Fault struct {
	Op     Op    // which operations count
	N      int   // the one that fails: 1 is the next of them
	Err    error // what it returns, wrapped: syscall.ENOSPC, syscall.EIO
	Sticky bool  // and all of them after it fail too
}

type fault struct {
	Fault
	seen int
}

// Inject adds faults to those that are set. When several meet, the first set wins.
func (f *FS) Inject(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, set := range faults {
		f.faults = append(f.faults, &fault{Fault: set})
	}
}

// CutAt cuts the power in the n-th operation from now (1 is the next one; reads
// do not count): it is done, done in part or not done, and fails with
// [ErrPowerCut], as does all that comes after. What is left is told by [FS.Crash].
func (f *FS) CutAt(n int) {
	f.Inject(Fault{Op: OpAny, N: n, Err: ErrPowerCut, Sticky: true})
}

// Heal removes all faults. It does not bring the power back: that is [FS.Crash].
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Ops is how many operations there were, reads not counted.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

// Failed is how many operations failed by a fault or by the power cut itself.
func (f *FS) Failed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// outcome is what becomes of one operation: it is done, done in part, or not
// done, and then returns err.
type outcome struct {
	apply, partial bool
	err            error
}

// step counts an operation and decides its outcome.
func (f *FS) step(op Op) outcome {
	if f.cut {
		return outcome{err: ErrPowerCut}
	}
	if op != OpRead {
		f.steps++
	}
	var err error
	for _, set := range f.faults {
		if set.Op != op && (set.Op != OpAny || op == OpRead) {
			continue
		}
		set.seen++
		if err == nil && (set.seen == set.N || set.Sticky && set.seen > set.N) {
			err = set.Err
		}
	}
	if err != nil {
		f.failed++
	}
	f.cut = errors.Is(err, ErrPowerCut)
	apply := err == nil || f.cut && f.rng.IntN(2) == 0
	return outcome{apply: apply, partial: !apply, err: err}
}
