package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"builder/pkg/disk/disktest"
	"builder/pkg/journal"
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
