package store_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// TestDeliverFaults lets operations of a delivery fail, every third of them: that is an error,
// what came before is kept, and the draft can be used on.
func TestDeliverFaults(t *testing.T) {
	const began = 1000
	data := random(began + 1<<20) // hashed beside the writing
	for name, fault := range map[string]disktest.Fault{
		"full disk":   {Err: syscall.ENOSPC, Op: disktest.OpWrite},
		"bad disk":    {Err: syscall.EIO},
		"bad in read": {Err: syscall.EIO, Op: disktest.OpRead},
	} {
		t.Run(name, func(t *testing.T) {
			for fault.N = 1; ; fault.N += 3 {
				fsys, dir := disktest.New(uint64(fault.N)), scratch(t)
				s := open(t, fsys, dir)
				d, other := begin(t, s, 1), begin(t, s, 2)
				offer(t, other, offered(file{"b", "of another build"}))
				mustDeliver(t, other, "of another build")
				offer(t, d, offered(file{"a", data}))
				if err := deliver(d, data, 0, began); !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
				fsys.Inject(fault)
				err := deliver(d, data, began, len(data))
				if err == nil {
					// What may still fail is the sync beside, and the commit tells that.
					if _, err := d.Commit(buildOf("hello", 1)); err != nil && !errors.Is(err, fault.Err) {
						t.Error(err)
					}
					break
				}
				fsys.Heal()
				w := d.Lacking()
				if !errors.Is(err, fault.Err) || len(w) != 1 || w[0].Offset < began {
					t.Fatalf("operation %d failed: %v lacks, %v", fault.N, w, err)
				}
				if err := deliver(d, data, int(w[0].Offset), len(data)); err != nil {
					t.Fatal(err)
				}
				h := newHistory(1)
				for n, d := range []*store.Draft{d, other} {
					b := buildOf("hello", n+1)
					if _, err := d.Commit(b); err != nil {
						t.Fatal(err)
					}
					h.committed[b.UUID] = b.Job
				}
				h.begun = []kept{
					{build: buildOf("hello", 1), offers: []file{{"a", data}}},
					{build: buildOf("hello", 2), offers: []file{{"b", "of another build"}}},
				}
				s.Close()
				if err := h.check(fsys.Crash(), dir); err != nil {
					t.Fatal(err)
				}
			}
			if fault.N == 1 {
				t.Error("a delivery has no such operation")
			}
		})
	}
}

// TestReadAgainFails: what an earlier draft left and can not be read comes again.
func TestReadAgainFails(t *testing.T) {
	const data = "what has come before"
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	d := begin(t, s, 1)
	offer(t, d, offered(file{"a", data}))
	if err := deliver(d, data, 0, 7); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if err := d.Suspend(); err != nil {
		t.Fatal(err)
	}
	d, err := s.Resume("hello", number(1))
	if err != nil {
		t.Fatal(err)
	}
	fsys.Inject(disktest.Fault{Op: disktest.OpRead, N: 1, Err: syscall.EIO})
	if err := d.Offer(offered(file{"a", data})); !errors.Is(err, syscall.EIO) {
		t.Errorf("offering: %v", err)
	}
	fsys.Heal()
	offer(t, d, offered(file{"a", data}))
	lacks(t, d, wanted(data, 7))
	fsys.Inject(disktest.Fault{Op: disktest.OpRead, N: 2, Err: syscall.EIO}) // the first is the seek
	if err := deliver(d, data, 7, len(data)); !errors.Is(err, syscall.EIO) {
		t.Errorf("delivering: %v", err)
	}
	fsys.Heal()
	lacks(t, d, wanted(data, 0))
	mustDeliver(t, d, data)
	if _, err := d.Commit(buildOf("hello", 1)); err != nil {
		t.Error(err)
	}
}

// TestSyncFails: contents whose sync failed are never trusted again, whether they
// are few or many, by this server or the next.
func TestSyncFails(t *testing.T) {
	for _, count := range []int{1, 32, 33, 100} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			var files []file
			for n := range count {
				files = append(files, file{fmt.Sprint(n), fmt.Sprint("content ", n)})
			}
			fsys, dir := disktest.New(uint64(count)), scratch(t)
			s := open(t, fsys, dir)
			d := begin(t, s, 1)
			offer(t, d, offered(files...))
			for _, f := range files {
				mustDeliver(t, d, f.data)
			}
			op := disktest.OpSync
			if count > 32 {
				op = disktest.OpBarrier
			}
			fsys.Inject(disktest.Fault{Op: op, N: 1, Err: syscall.EIO})
			for range 2 {
				if _, err := d.Commit(buildOf("hello", 1)); !errors.Is(err, syscall.EIO) {
					t.Fatalf("committing: %v", err)
				}
			}
			for _, f := range files {
				if s.HasContent(job.ContentOf([]byte(f.data))) {
					t.Errorf("content %q has its place", f.data)
				}
			}
			// The process dies here, without Abandon.
			s.Close()
			s, err := store.Open(fsys, dir, func(uuid.UUID) bool { return true }, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			d, err = s.Resume("hello", number(1))
			if err != nil {
				t.Fatal(err)
			}
			offer(t, d, offered(files...))
			if lacking := d.Lacking(); len(lacking) != count || lacking[0].Offset != 0 {
				t.Errorf("%d contents lack, the first from %d on", len(lacking), lacking[0].Offset)
			}
		})
	}
}
