package store_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/journal"
	"builder/pkg/store"
)

// beforeBarrier calls something before a barrier is synced, or refuses that.
type beforeBarrier struct {
	disk.FS
	do      func()
	refuses atomic.Bool
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
	if b.by.refuses.Load() {
		return syscall.EIO
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

// TestNeverSettled: where the log can not be dropped it ends to grow: builds are synced
// one by one then.
func TestNeverSettled(t *testing.T) {
	dir := scratch(t)
	if !barrierHere(t, dir) {
		t.Skip("no barrier on this file system")
	}
	hooked := &beforeBarrier{FS: disk.OS{}}
	hooked.refuses.Store(true)
	s := open(t, hooked, dir)
	text := []string{strings.Repeat("x", 15<<10)}
	n := 1
	for mustCommit(t, s, buildOf("hello", n), text, nil); s.Logged(number(n)); n++ {
		if n > 5000 {
			t.Fatal("the log only grows")
		}
		mustCommit(t, s, buildOf("hello", n+1), text, nil)
	}
	hooked.refuses.Store(false)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, buildOf("hello", n+1), text, nil)
	if !s.Logged(number(n + 1)) {
		t.Error("the log was dropped, and takes no build")
	}
}

// TestBeginWhileSettling: a build begins while others, and whoever drops the log, wait
// for the disk. (If it does not, this test does not end.)
func TestBeginWhileSettling(t *testing.T) {
	s := open(t, disktest.New(1), scratch(t))
	waiting, _, release := s.HoldLog()
	var group sync.WaitGroup
	group.Go(func() { commitQuietly(t, s, buildOf("hello", 1)) })
	for waiting() < 1 {
		runtime.Gosched()
	}
	group.Go(func() {
		if err := s.Settle(); err != nil {
			t.Error(err)
		}
	})
	for !s.Settling() {
		runtime.Gosched()
	}
	begin(t, s, 2)
	release()
	group.Wait()
}

// TestConsoleNotReadBack: what comes into the log of a console is what was printed, not
// what the disk makes of it meanwhile.
func TestConsoleNotReadBack(t *testing.T) {
	for _, seed := range seeds(t, 8) {
		fsys, dir := disktest.New(seed), scratch(t)
		hooked := &beforeBarrier{FS: fsys}
		s := open(t, hooked, dir)
		mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
		var d *store.Draft
		hooked.do = func() {
			d = begin(t, s, 2)
			if err := errors.Join(fill(d, []string{"two"}, nil), d.Console().Flush()); err != nil {
				t.Error(err)
			}
		}
		fsys.Inject(disktest.Fault{Op: disktest.OpBarrier, N: 1, Err: syscall.EIO})
		if err := s.Settle(); err == nil {
			t.Error("the barrier did not fail")
		}
		hooked.do = nil
		fsys.Inject(disktest.Fault{Op: disktest.OpRead, N: 1, Err: syscall.EIO, Sticky: true})
		if _, err := d.Commit(buildOf("hello", 2)); err != nil {
			t.Fatal(err)
		}
		fsys.Heal()
		s = afterPowerCut(t, s, fsys, dir)
		if lines, err := linesOf(s, number(2), 0); err != nil || !slices.Equal(text(lines), []string{"two"}) {
			t.Errorf("seed %d: %q, %v", seed, text(lines), err)
		}
	}
}

// TestSettleAgain: builds that were committed while the log was being dropped leave it
// the next time, also when nothing has come since.
func TestSettleAgain(t *testing.T) {
	fsys, dir := disktest.New(1), scratch(t)
	hooked := &beforeBarrier{FS: fsys}
	s := open(t, hooked, dir)
	mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
	hooked.do = func() { mustCommit(t, s, buildOf("hello", 2), []string{"two"}, nil) }
	logged := func(want int) {
		t.Helper()
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
		left, err := journal.Read(fsys, filepath.Join(dir, "v1/ahead"), func() *records { return &records{} })
		if err != nil || len(*left) != want {
			t.Errorf("%d in the log, want %d: %v", len(*left), want, err)
		}
	}
	logged(1)
	hooked.do = nil
	logged(0)
}
