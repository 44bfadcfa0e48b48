package disktest_test

import (
	"errors"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
)

// TestBarrier: what a barrier has synced is there after a power cut, with its names,
// of files that are open, closed or not; what it failed to sync may not be.
func TestBarrier(t *testing.T) {
	const want = "a=closed b=open"
	for name, test := range map[string]struct {
		barrier func(script)
		kept    bool // always
	}{
		"none":   {func(script) {}, false},
		"synced": {func(s script) { s.check(s.barrier().Sync()) }, true},
		"failed": {func(s script) {
			b := s.barrier()
			s.lose(b)
			s.check(b.Sync()) // proves nothing
		}, false},
		"failed for others": {func(s script) {
			b, other := s.barrier(), s.barrier()
			s.lose(other)
			s.lost(b.Sync())
			s.check(b.Sync()) // proves nothing
		}, false},
		"failed before a sync": {func(s script) {
			f := s.write("/c", 0, "written")
			s.lose(s.barrier())
			s.lost(f.Sync())
			s.check(f.Sync()) // proves nothing
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			lost := 0
			for seed := range uint64(50) {
				s := script{t, disktest.New(seed)}
				s.check(s.write("/a", 0, "closed").Close())
				s.write("/b", 0, "open")
				test.barrier(s)
				if tree(t, s.fs.Crash(), "/") != want {
					lost++
				}
			}
			if test.kept != (lost == 0) {
				t.Errorf("%d of 50 lost something", lost)
			}
		})
	}
	if _, err := disktest.New(1).OpenBarrier("/missing"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a barrier on nothing: %v", err)
	}
}

// barrier opens one.
func (s script) barrier() disk.Barrier {
	s.t.Helper()
	b, err := s.fs.OpenBarrier("/")
	s.check(err)
	return b
}

// lose has the next sync of b fail.
func (s script) lose(b disk.Barrier) {
	s.t.Helper()
	s.fs.Inject(disktest.Fault{Op: disktest.OpBarrier, N: 1, Err: syscall.EIO})
	s.lost(b.Sync())
}

// lost checks that a sync told of what was lost.
func (s script) lost(err error) {
	s.t.Helper()
	if !errors.Is(err, syscall.EIO) {
		s.t.Fatalf("a sync of what was lost: %v", err)
	}
}
