package journal_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"
	"builder/pkg/journal"
)

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
	all := seeds(t, 2)
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
