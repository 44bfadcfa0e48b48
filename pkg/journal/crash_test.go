package journal_test

import (
	"builder/pkg/disk/disktest"
	"builder/pkg/journal"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// seeds returns as many seeds as there are rounds, JOURNAL_ROUNDS times as many
// when that is set, or just JOURNAL_SEED.
func seeds(t *testing.T, rounds int) []uint64 {
	t.Helper()
	if only, err := strconv.ParseUint(os.Getenv("JOURNAL_SEED"), 10, 64); err == nil {
		return []uint64{only}
	}
	if n, err := strconv.Atoi(os.Getenv("JOURNAL_ROUNDS")); err == nil {
		rounds *= n
	}
	first := rand.Uint64() >> 16
	t.Logf("seeds %d to %d; JOURNAL_SEED=N repeats one", first, first+uint64(rounds)-1)
	var list []uint64
	for i := range rounds {
		list = append(list, first+uint64(i))
	}
	return list
}

// errKilled is what every operation returns to a process that was killed.
var errKilled = errors.New("killed")

func ended(err error) bool {
	return errors.Is(err, errKilled) || errors.Is(err, disktest.ErrPowerCut)
}

// life is a journal with what is known of it: the states that may be found.
type life struct {
	rng     *rand.Rand
	disk    *disktest.FS
	journal *journal.Journal[*ledger]
	state   *ledger   // of the owner: the acknowledged one
	allowed []*ledger // what may be on disk: state is the first
	between func()    // of the states to be made
}

func newLife(seed uint64) *life {
	return &life{
		rng:     rand.New(rand.NewPCG(seed, 1)),
		disk:    disktest.New(seed),
		allowed: []*ledger{newLedger()},
	}
}

// open opens the journal: what it finds must be allowed, and is certain then.
func (l *life) open() error {
	j, state, err := journal.Open(l.disk, dir, l.empty, journal.Options{SegmentSize: 300})
	if err != nil {
		return err
	}
	for _, allowed := range l.allowed {
		if allowed.String() == state.String() {
			l.journal, l.state, l.allowed = j, state, []*ledger{state}
			return nil
		}
	}
	return fmt.Errorf("found a state that is not allowed:\nfound   %v\nallowed %v", state, l.allowed)
}

// append appends a batch, and recovers as an owner does. It returns an error
// when the process ended or something is wrong.
func (l *life) append(batch [][]byte) error {
	next := l.state.after(batch)
	err := l.journal.Append(batch...)
	switch {
	case err == nil:
		l.state, l.allowed = next, []*ledger{next}
		return nil
	case ended(err):
		l.allowed = append(l.allowed, next)
		return err
	case errors.Is(err, journal.ErrUnknown):
		l.allowed = []*ledger{l.state, next}
	case !errors.Is(err, journal.ErrReadOnly):
		l.allowed = []*ledger{l.state} // also what was unknown before is settled
	}
	return l.reload()
}

// reload checks that the state on disk is the acknowledged one.
func (l *life) reload() error {
	found, err := l.journal.Reload()
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if found.String() != l.state.String() {
		return fmt.Errorf("reload:\nfound %v\nwant  %v", found, l.state)
	}
	return nil
}

// step does something at random.
func (l *life) step() error {
	switch n := l.rng.IntN(10); {
	case n == 0:
		return l.reload()
	case n < 3:
		return l.compact()
	case n == 3:
		return l.settled(l.journal.Recover())
	case n == 4:
		l.journal.Close()
		return l.open()
	default:
		return l.append(l.batch())
	}
}

// compact compacts, and appends a batch while the snapshot is being written.
func (l *life) compact() error {
	var beside error
	ran := false
	l.between = func() {
		ran = true
		l.allowed = []*ledger{l.state} // there is a new segment
		beside = l.append(l.batch())
	}
	err := l.journal.Compact()
	l.between = nil
	switch {
	case beside != nil:
		return beside
	case ran && !ended(err):
		return nil
	default:
		return l.settled(err)
	}
}

// empty makes the states of the journal.
func (l *life) empty() *ledger {
	state := newLedger()
	state.between = l.between
	return state
}

// settled takes the result of what ends all doubt when it succeeds. That it does
// not is no error here, unless the process ended.
func (l *life) settled(err error) error {
	if ended(err) {
		return err
	}
	if err == nil {
		l.allowed = []*ledger{l.state}
	}
	return nil
}

func (l *life) batch() [][]byte {
	var batch [][]byte
	for range 1 + l.rng.IntN(3) {
		key := l.rng.IntN(8)
		if l.rng.IntN(4) == 0 {
			batch = append(batch, fmt.Appendf(nil, "delete %d", key))
		} else {
			batch = append(batch, fmt.Appendf(nil, "set %d %0*d", key, 1+l.rng.IntN(60), l.rng.IntN(1000)))
		}
	}
	return batch
}

// run opens the journal and does steps.
func (l *life) run(steps int) error {
	if err := l.open(); err != nil {
		return err
	}
	for range steps {
		if err := l.step(); err != nil {
			return err
		}
	}
	return nil
}

// end ends the process in the n-th operation from now: the power is cut, or it is
// killed.
func (l *life) end(n int, power bool) {
	if power {
		l.disk.CutAt(n)
	} else {
		l.disk.Inject(disktest.Fault{N: n, Err: errKilled, Sticky: true})
	}
}

// restart begins a new process, on what a power cut has left or on the same disk.
func (l *life) restart(power bool) {
	if power {
		l.disk = l.disk.Crash()
	}
	l.disk.Heal()
}

// TestPowerCut ends the process in every single operation of a random history,
// then a few times more in the recovery from that.
func TestPowerCut(t *testing.T) {
	const steps = 12
	for _, seed := range seeds(t, 15) {
		whole := newLife(seed)
		if err := whole.run(steps); err != nil {
			t.Fatalf("seed %d without an end: %v", seed, err)
		}
		for n := range whole.disk.Ops() {
			for _, power := range []bool{true, false} {
				l := newLife(seed)
				l.end(n+1, power)
				err := l.run(steps)
				if !ended(err) {
					t.Fatalf("seed %d, operation %d, power %v: %v", seed, n+1, power, err)
				}
				l.restart(power)
				if err := l.recover(); err != nil {
					t.Fatalf("seed %d, operation %d, power %v: %v", seed, n+1, power, err)
				}
			}
		}
	}
}

// recover opens the journal again, with more ends on the way, and checks that it
// takes batches and keeps them.
func (l *life) recover() error {
	for range 3 {
		power := l.rng.IntN(2) == 0
		l.end(1+l.rng.IntN(15), power)
		err := l.run(3)
		if err != nil && !ended(err) {
			return fmt.Errorf("in recovery: %w", err)
		}
		l.restart(power)
	}
	if err := l.run(0); err != nil {
		return err
	}
	if err := l.append(l.batch()); err != nil {
		return err
	}
	l.restart(true)
	return l.run(0)
}

// TestFaults lets every single operation of a random history fail, once or from
// then on, until the disk heals. The power may be cut at any time after.
func TestFaults(t *testing.T) {
	const steps = 12
	full, broken := error(syscall.ENOSPC), error(syscall.EIO)
	kinds := map[string][]disktest.Fault{
		"any":               {{Op: disktest.OpAny, Err: broken}},
		"all from then on":  {{Op: disktest.OpAny, Err: broken, Sticky: true}},
		"short write":       {{Op: disktest.OpWrite, Err: full}},
		"disk full":         {{Op: disktest.OpWrite, Err: full, Sticky: true}},
		"sync":              {{Op: disktest.OpSync, Err: broken}},
		"no sync any more":  {{Op: disktest.OpSync, Err: broken, Sticky: true}},
		"directory sync":    {{Op: disktest.OpSyncDir, Err: broken}},
		"rename":            {{Op: disktest.OpRename, Err: broken, Sticky: true}},
		"open":              {{Op: disktest.OpOpen, Err: syscall.EMFILE}},
		"remove":            {{Op: disktest.OpRemove, Err: broken}},
		"read":              {{Op: disktest.OpRead, Err: broken}},
		"make directory":    {{Op: disktest.OpMkdir, Err: full, Sticky: true}},
		"write and cut off": {{Op: disktest.OpWrite, Err: full}, {Op: disktest.OpTruncate, N: 1, Err: broken}},
		"sync and cut off":  {{Op: disktest.OpSync, Err: broken}, {Op: disktest.OpTruncate, N: 1, Err: broken}},
	}
	all := seeds(t, 3)
	for name, faults := range kinds {
		t.Run(name, func(t *testing.T) {
			for _, seed := range all {
				for n := 1; ; n++ {
					faults[0].N = n
					l := newLife(seed)
					l.disk.Inject(faults...)
					hit, err := l.fail(steps)
					if err != nil {
						t.Fatalf("seed %d, operation %d: %v", seed, n, err)
					}
					if !hit {
						break
					}
				}
			}
		})
	}
}

// fail runs steps with faults set, and then checks that the journal has
// recovered. It reports whether the faults were met at all.
func (l *life) fail(steps int) (hit bool, err error) {
	open := func() error {
		err := l.open()
		if isFault(err) {
			l.disk.Heal()
			err = l.open()
		}
		return err
	}
	if err := open(); err != nil {
		return false, err
	}
	for range steps {
		err := l.step()
		hit = hit || l.disk.Failed() > 0
		if isFault(err) { // not from Append, but it could not be opened or read
			l.journal.Close()
			err = open()
		}
		if err == nil && hit && l.rng.IntN(4) == 0 {
			l.restart(true)
			err = l.open()
		}
		if err != nil {
			return hit, err
		}
	}
	hit = hit || l.disk.Failed() > 0
	l.disk.Heal()
	batch := l.batch()
	next := l.state.after(batch)
	if err := l.journal.Append(batch...); err != nil {
		return hit, fmt.Errorf("the disk is well again: %w", err)
	}
	l.allowed = []*ledger{next}
	l.restart(true)
	return hit, l.run(0)
}

func isFault(err error) bool {
	var number syscall.Errno
	return errors.As(err, &number)
}

// TestRefusedStaysAway: a batch that was refused does not come back.
func TestRefusedStaysAway(t *testing.T) {
	for _, seed := range seeds(t, 1000) {
		l := newLife(seed)
		if err := l.run(0); err != nil {
			t.Fatal(err)
		}
		if err := l.append(l.batch()); err != nil {
			t.Fatal(err)
		}
		l.disk.Inject(disktest.Fault{Op: disktest.OpSync, N: 1, Err: syscall.EIO})
		if err := l.journal.Append(l.batch()...); !errors.Is(err, syscall.EIO) || errors.Is(err, journal.ErrUnknown) {
			t.Fatalf("Append: %v, want EIO, and that it is known", err)
		}
		l.restart(true)
		if err := l.run(0); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestFoundIsDurable: what a new process has found after the one before was
// killed in any operation is still there when the power is cut then, with what
// it may have appended.
func TestFoundIsDurable(t *testing.T) {
	for _, seed := range seeds(t, 100) {
		for n, more := 1, true; more; n++ {
			l := newLife(seed)
			l.end(n, false)
			err := l.run(0)
			if err == nil {
				err = l.append(l.batch())
			}
			if err != nil && !ended(err) {
				t.Fatal(err)
			}
			more = err != nil
			l.restart(false)
			if err := l.run(0); err != nil {
				t.Fatalf("seed %d, operation %d: %v", seed, n, err)
			}
			if seed%2 == 0 {
				if err := l.append(l.batch()); err != nil {
					t.Fatal(err)
				}
			}
			l.restart(true)
			if err := l.run(0); err != nil {
				t.Fatalf("seed %d, operation %d, then power cut: %v", seed, n, err)
			}
		}
	}
}

// TestRotationFails: when it is not certain whether a new segment will be found,
// nothing is appended to the present one.
func TestRotationFails(t *testing.T) {
	for _, seed := range seeds(t, 300) {
		l := newLife(seed)
		if err := l.run(0); err != nil {
			t.Fatal(err)
		}
		if err := l.append(l.batch()); err != nil {
			t.Fatal(err)
		}
		l.disk.Inject(disktest.Fault{Op: disktest.OpSyncDir, N: 1, Err: syscall.EIO})
		if err := l.journal.Compact(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Compact: %v, want EIO", err)
		}
		l.disk.Inject(disktest.Fault{Op: disktest.OpRename, N: 1, Err: syscall.ENOSPC})
		if err := l.journal.Append(l.batch()...); !errors.Is(err, journal.ErrReadOnly) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Append: %v, want read-only and no space", err)
		}
		if err := l.append(l.batch()); err != nil {
			t.Fatal(err)
		}
		l.restart(true)
		if err := l.run(0); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestUnknown: a batch that could be neither synced nor removed may be found by
// a new process; as soon as the journal has recovered, it never is.
func TestUnknown(t *testing.T) {
	for name, test := range map[string]struct{ recovered, empty bool }{
		"before recovery":                  {},
		"after recovery":                   {recovered: true},
		"before recovery of empty segment": {empty: true},
		"after recovery of empty segment":  {recovered: true, empty: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(1)
			if err := l.run(0); err != nil {
				t.Fatal(err)
			}
			if err := l.append([][]byte{[]byte("set 1 kept")}); err != nil {
				t.Fatal(err)
			}
			if test.empty { // a new segment, but no snapshot of the one before
				l.disk.Inject(disktest.Fault{Op: disktest.OpRename, N: 2, Err: syscall.ENOSPC})
				if err := l.journal.Compact(); !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("Compact: %v, want no space", err)
				}
				l.disk.Heal()
			}
			l.disk.Inject(
				disktest.Fault{Op: disktest.OpSync, N: 1, Err: syscall.EIO},
				disktest.Fault{Op: disktest.OpTruncate, N: 1, Err: syscall.EIO},
				disktest.Fault{Op: disktest.OpRename, N: 1, Err: syscall.ENOSPC})
			unknown := [][]byte{[]byte("set 1 unknown")}
			if err := l.journal.Append(unknown...); !errors.Is(err, journal.ErrUnknown) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("Append: %v, want unknown and EIO", err)
			}
			if err := l.reload(); err != nil {
				t.Fatal(err)
			}
			if err := l.journal.Append([]byte("set 2 refused")); !errors.Is(err, journal.ErrReadOnly) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Append: %v, want read-only and no space", err)
			}
			if err := l.reload(); err != nil {
				t.Fatal(err)
			}
			if test.recovered {
				if err := l.journal.Recover(); err != nil {
					t.Fatal(err)
				}
			} else {
				l.allowed = append(l.allowed, l.state.after(unknown))
			}
			if err := l.run(0); err != nil { // as after a kill: the batch is in the file or cache
				t.Fatal(err)
			}
		})
	}
}
