package store_test

import (
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/store"
)

// beforeBarrier calls something before a barrier is synced.
type beforeBarrier struct {
	disk.FS
	do func()
}

func (f *beforeBarrier) OpenBarrier(dir string) (disk.Barrier, error) {
	b, err := f.FS.OpenBarrier(dir)
	if err != nil {
		return nil, err
	}
	return hookedBarrier{b, f}, nil
}

type hookedBarrier struct {
	disk.Barrier
	by *beforeBarrier
}

func (b hookedBarrier) Sync() error {
	if b.by.do != nil {
		b.by.do()
	}
	return b.Barrier.Sync()
}

// TestPinWhileSettling: a pin is durable when it was acknowledged, also of a build that
// is on its way out of the log. Until it is out of it, a Prune knows that it is there.
func TestPinWhileSettling(t *testing.T) {
	for _, seed := range seeds(t, 5) {
		fsys, dir := disktest.New(seed), scratch(t)
		hooked := &beforeBarrier{FS: fsys}
		s := open(t, hooked, dir)
		mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
		hooked.do = func() {
			if !s.Logged(number(1)) {
				t.Error("it is not in the log any more")
			}
			if err := s.Pin(number(1)); err != nil {
				t.Error(err)
			}
			fsys.CutAt(1)
		}
		if err := s.Settle(); err == nil {
			t.Error("there was no power cut")
		}
		checkPinned(t, afterPowerCut(t, s, fsys, dir), seed)
	}
}

func checkPinned(t *testing.T, s *store.Store, seed uint64) {
	t.Helper()
	if m, err := s.Marks("hello", number(1)); err != nil || !m.Pinned {
		t.Errorf("seed %d: %+v, %v", seed, m, err)
	}
}
