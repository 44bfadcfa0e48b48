package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
)

// TestUnknown: a build whose outcome is unknown does not come back when it was abandoned.
func TestUnknown(t *testing.T) {
	for _, seed := range seeds(t, 8) {
		fsys, dir := disktest.New(seed), scratch(t)
		s := open(t, fsys, dir)
		d := begin(t, s, 1)
		if err := fill(d, []string{"a line"}, nil); err != nil {
			t.Fatal(err)
		}
		commitUnknown(t, fsys, d)
		fsys.Heal()
		if err := d.Abandon(); err != nil {
			t.Fatal(err)
		}
		s = afterPowerCut(t, s, fsys, dir)
		if _, err := s.Build(number(1)); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// commitUnknown commits build 1 on a disk on which neither the log is written nor can
// that be taken back, from then on.
func commitUnknown(t *testing.T, fsys *disktest.FS, d *store.Draft) {
	t.Helper()
	fsys.Inject(disktest.Fault{Op: disktest.OpSync, N: 1, Err: syscall.EIO, Sticky: true}, disktest.Fault{Op: disktest.OpTruncate, N: 1, Err: syscall.EIO})
	if _, err := d.Commit(buildOf("hello", 1)); !errors.Is(err, journal.ErrUnknown) {
		t.Fatal(err)
	}
}

// TestUnknownThenOther: the record that is acknowledged in the end stays, whatever of
// another one came into the log before.
func TestUnknownThenOther(t *testing.T) {
	other := buildOf("hello", 1)
	other.Result = job.Failure(job.ServerSide, "%s", strings.Repeat("x", 17<<10)) // too long for the log
	for name, end := range map[string]func(*disktest.FS, *store.Store, *store.Draft) error{
		"the same draft": func(fsys *disktest.FS, _ *store.Store, d *store.Draft) error {
			fsys.Heal()
			_, err := d.Commit(other)
			return err
		},
		"after a failed abandon": func(fsys *disktest.FS, s *store.Store, d *store.Draft) error {
			if err := d.Abandon(); err == nil {
				return errors.New("it was abandoned on a failing disk")
			}
			fsys.Heal()
			d, err := s.Resume("hello", number(1))
			if err == nil {
				_, err = d.Commit(other)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, seed := range seeds(t, 8) {
				fsys, dir := disktest.New(seed), scratch(t)
				s := open(t, fsys, dir)
				d := begin(t, s, 1)
				commitUnknown(t, fsys, d)
				if err := end(fsys, s, d); err != nil {
					t.Fatal(err)
				}
				s = afterPowerCut(t, s, fsys, dir)
				got, err := s.Build(number(1))
				if diff := cmp.Diff(other.Result, got.Result); err != nil || diff != "" {
					t.Fatalf("seed %d: %v %s", seed, err, diff)
				}
			}
		})
	}
}

// TestCloseUnknown: after a clean stop nothing comes back that is removed meanwhile, by
// an earlier release, say.
func TestCloseUnknown(t *testing.T) {
	for _, seed := range seeds(t, 8) {
		fsys, dir := disktest.New(seed), scratch(t)
		s := open(t, fsys, dir)
		d := begin(t, s, 1)
		commitUnknown(t, fsys, d)
		fsys.Heal()
		if err := errors.Join(d.Suspend(), s.Close()); err != nil {
			t.Fatal(err)
		}
		build := filepath.Join(dir, "v1/builds/hello", number(1).String())
		for _, name := range []string{"record", "console", "console.index", "."} {
			if err := fsys.Remove(filepath.Join(build, name)); err != nil {
				t.Fatal(err)
			}
		}
		s = open(t, fsys, dir)
		if _, err := s.Build(number(1)); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
