package disktest_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"

	"github.com/google/go-cmp/cmp"
)

// all does one operation of each kind, in a fixed order, and returns which
// failed with want. Another error ends the test.
func all(t *testing.T, fsys *disktest.FS, want error) (failed []string) {
	t.Helper()
	note := func(name string, err error) {
		switch {
		case errors.Is(err, want):
			failed = append(failed, name)
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist):
			t.Fatalf("%s: %v", name, err)
		}
	}
	f, err := fsys.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o644)
	note("open", err)
	if err == nil {
		_, err = f.Write([]byte("12345678"))
		note("write", err)
		note("sync", f.Sync())
		note("truncate", f.Truncate(4))
		_, err = f.ReadAt(make([]byte, 1), 0)
		note("read", err)
		f.Close()
	}
	note("mkdir", fsys.Mkdir("/d", 0o755))
	note("syncdir", fsys.SyncDir("/"))
	note("rename", fsys.Rename("/f", "/g"))
	note("remove", fsys.Remove("/g"))
	return failed
}

func TestFaults(t *testing.T) {
	tests := map[string]struct {
		fault disktest.Fault
		want  []string // in two rounds of all
	}{
		"first":           {disktest.Fault{N: 1}, []string{"open"}},
		"third":           {disktest.Fault{N: 3}, []string{"sync"}},
		"too late":        {disktest.Fault{N: 100}, nil},
		"from third on":   {disktest.Fault{N: 8, Sticky: true}, []string{"remove", "open", "mkdir", "syncdir", "rename", "remove"}},
		"open":            {disktest.Fault{Op: disktest.OpOpen, N: 2}, []string{"open"}},
		"write":           {disktest.Fault{Op: disktest.OpWrite, N: 1}, []string{"write"}},
		"writes":          {disktest.Fault{Op: disktest.OpWrite, N: 1, Sticky: true}, []string{"write", "write"}},
		"second sync":     {disktest.Fault{Op: disktest.OpSync, N: 2}, []string{"sync"}},
		"truncate":        {disktest.Fault{Op: disktest.OpTruncate, N: 1}, []string{"truncate"}},
		"reads":           {disktest.Fault{Op: disktest.OpRead, N: 1, Sticky: true}, []string{"read", "read"}},
		"mkdir":           {disktest.Fault{Op: disktest.OpMkdir, N: 1}, []string{"mkdir"}},
		"directory syncs": {disktest.Fault{Op: disktest.OpSyncDir, N: 1, Sticky: true}, []string{"syncdir", "syncdir"}},
		"rename":          {disktest.Fault{Op: disktest.OpRename, N: 1}, []string{"rename"}},
		"remove":          {disktest.Fault{Op: disktest.OpRemove, N: 2}, []string{"remove"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.New(1)
			test.fault.Err = syscall.EDQUOT
			fsys.Inject(test.fault)
			got := append(all(t, fsys, syscall.EDQUOT), all(t, fsys, syscall.EDQUOT)...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if got := fsys.Failed(); got != len(test.want) {
				t.Errorf("%d operations failed, want %d", got, len(test.want))
			}
			fsys.Heal()
			if got := all(t, fsys, syscall.EDQUOT); got != nil {
				t.Errorf("healed, but failed: %v", got)
			}
		})
	}
}

func TestShortWrite(t *testing.T) {
	const text = "0123456789"
	met := map[int]bool{}
	for seed := range uint64(200) {
		fsys := disktest.New(seed)
		f, err := fsys.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		fsys.Inject(disktest.Fault{Op: disktest.OpWrite, N: 1, Err: syscall.ENOSPC})
		n, err := f.Write([]byte(text))
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("error %v", err)
		}
		met[n] = true
		if got, want := tree(t, fsys, "/"), "f="+text[:n]; got != want {
			t.Errorf("wrote %d octets: %q, want %q", n, got, want)
		}
		if _, err := f.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got, want := tree(t, fsys, "/"), "f="+text[:n]+"x"; got != want {
			t.Errorf("went on: %q, want %q", got, want)
		}
	}
	if len(met) != len(text) || met[len(text)] {
		t.Errorf("lengths written: %v, want 0 to 9", met)
	}
}

// From the power cut on nothing works and nothing changes.
func TestCutAt(t *testing.T) {
	whole := disktest.New(1)
	all(t, whole, syscall.EDQUOT)
	for n := 1; n <= whole.Ops(); n++ {
		fsys := disktest.New(1)
		fsys.CutAt(n)
		all(t, fsys, disktest.ErrPowerCut)
		if _, err := fsys.Stat("/"); !errors.Is(err, disktest.ErrPowerCut) {
			t.Errorf("operation %d: Stat after it: %v", n, err)
		}
		if got := fsys.Ops(); got != n {
			t.Errorf("cut at operation %d, %d were done", n, got)
		}
		fsys.Heal()
		if got := all(t, fsys, disktest.ErrPowerCut); len(got) != 5 {
			t.Errorf("operation %d: healing brought the power back: %v", n, got)
		}
		if got := all(t, fsys.Crash(), syscall.EDQUOT); got != nil {
			t.Errorf("operation %d: after the crash: %v", n, got)
		}
	}
}

// A power cut in a write leaves nothing, any part, or all of it.
func TestCutInWrite(t *testing.T) {
	met := map[string]bool{}
	for seed := range uint64(300) {
		s := script{t, disktest.New(seed)}
		f := s.durable("/f", "")
		s.fs.CutAt(1)
		if _, err := f.Write([]byte("ab")); !errors.Is(err, disktest.ErrPowerCut) {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("never")); !errors.Is(err, disktest.ErrPowerCut) {
			t.Fatal(err)
		}
		left := tree(t, s.fs.Crash(), "/")
		if strings.Contains(left, "n") {
			t.Fatalf("seed %d: written after the cut: %q", seed, left)
		}
		met[left] = true
	}
	want := map[string]bool{"f=": true, "f=0": true, "f=a": true, "f=00": true, "f=ab": true}
	if diff := cmp.Diff(want, met); diff != "" {
		t.Error(diff)
	}
}
