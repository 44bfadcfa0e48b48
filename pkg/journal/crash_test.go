package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"
	"builder/pkg/journal"
)

// rounds is how many seeds each crash test takes; JOURNAL_SEEDS sets it,
// JOURNAL_SEED repeats one.
func seeds(t *testing.T, rounds int) []uint64 {
	if only, err := strconv.ParseUint(os.Getenv("JOURNAL_SEED"), 10, 64); err == nil {
		return []uint64{only}
	}
	if n, err := strconv.Atoi(os.Getenv("JOURNAL_SEEDS")); err == nil {
		rounds = n
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
	j, state, err := open(l.disk)
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
		return l.settled(l.journal.Compact())
	case n == 3:
		return l.settled(l.journal.Recover())
	case n == 4:
		l.journal.Close()
		return l.open()
	default:
		return l.append(l.batch())
	}
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
	for _, seed := range seeds(t, 60) {
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
	kinds := map[string]disktest.Fault{
		"any":       {Op: disktest.OpAny, Err: syscall.EIO},
		"any full":  {Op: disktest.OpAny, Err: syscall.ENOSPC, Sticky: true},
		"write":     {Op: disktest.OpWrite, Err: syscall.ENOSPC},
		"full":      {Op: disktest.OpWrite, Err: syscall.ENOSPC, Sticky: true},
		"sync":      {Op: disktest.OpSync, Err: syscall.EIO},
		"no sync":   {Op: disktest.OpSync, Err: syscall.EIO, Sticky: true},
		"syncdir":   {Op: disktest.OpSyncDir, Err: syscall.EIO},
		"rename":    {Op: disktest.OpRename, Err: syscall.EIO, Sticky: true},
		"open":      {Op: disktest.OpOpen, Err: syscall.EMFILE},
		"truncate":  {Op: disktest.OpTruncate, Err: syscall.EIO},
		"remove":    {Op: disktest.OpRemove, Err: syscall.EIO},
		"read":      {Op: disktest.OpRead, Err: syscall.EIO},
		"directory": {Op: disktest.OpMkdir, Err: syscall.ENOSPC, Sticky: true},
	}
	all := seeds(t, 4)
	for name, fault := range kinds {
		t.Run(name, func(t *testing.T) {
			for _, seed := range all {
				for n := 1; ; n++ {
					fault.N = n
					l := newLife(seed)
					l.disk.Inject(fault)
					hit, err := l.fail(steps, fault)
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

// fail runs steps with a fault set, and then checks that the journal has
// recovered. It reports whether the fault was met at all.
func (l *life) fail(steps int, fault disktest.Fault) (hit bool, err error) {
	open := func() error {
		err := l.open()
		if errors.Is(err, fault.Err) {
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
		if errors.Is(err, fault.Err) { // not from Append, but it could not be opened or read
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
