package store_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/retention"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// onIndex executes statements on the index of a data directory, beside the store.
func onIndex(t *testing.T, dir string) func(statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "v1", "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndexRefusesRows: what can not be written to the index is found all the
// same, in its order.
func TestIndexRefusesRows(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	mustCommit(t, s, buildOf("alpha", 1), nil, nil)
	mustCommit(t, s, buildOf("beta", 4), nil, nil)
	if _, err := s.List("", 0); err != nil { // writes what waits
		t.Fatal(err)
	}
	exec := onIndex(t, dir)
	exec("CREATE TRIGGER refuse BEFORE INSERT ON builds BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
	mustCommit(t, s, buildOf("alpha", 3), nil, nil)
	mustCommit(t, s, buildOf("beta", 2), nil, nil)
	ids := func(jobName string, limit int) []uuid.UUID {
		t.Helper()
		builds, err := s.List(jobName, limit)
		if err != nil {
			t.Fatal(err)
		}
		var ids []uuid.UUID
		for _, b := range builds {
			ids = append(ids, b.UUID)
		}
		return ids
	}
	check := func() {
		t.Helper()
		for want, got := range map[string][2][]uuid.UUID{
			"all":      {{number(4), number(3), number(2), number(1)}, ids("", 0)},
			"the last": {{number(4), number(3)}, ids("", 2)},
			"of a job": {{number(3), number(1)}, ids("alpha", 0)},
		} {
			if diff := cmp.Diff(got[0], got[1]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", want, diff)
			}
		}
		if b, err := s.Build(number(3)); err != nil || b.UUID != number(3) {
			t.Errorf("a build that waits: %v, %v", b.UUID, err)
		}
		if id, err := s.Resolve(number(2).String()); err != nil || id != number(2) {
			t.Errorf("its uuid: %v, %v", id, err)
		}
	}
	check()
	var readers sync.WaitGroup
	for range 2 { // each tries to write what waits
		readers.Go(func() {
			for range 200 {
				if _, err := s.Build(number(3)); err != nil {
					t.Errorf("while another one reads: %v", err)
					return
				}
			}
		})
	}
	readers.Wait()
	exec("DROP TRIGGER refuse")
	check()
}

// TestDiscard leaves nothing of a build but its job's directory.
func TestDiscard(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	b := buildOf("alpha", 1)
	d, err := s.Begin(b.Job, b.UUID)
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(d, []string{"a line"}, []file{{"a", "text"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(b.UUID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a discarded build: %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "v1", "builds", "alpha"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestIndexInMemory: where no index can be made all builds are found, and later
// starts have it in its file again.
func TestIndexInMemory(t *testing.T) {
	dir := scratch(t)
	takeOver(t, dir)
	s := open(t, disk.OS{}, dir)
	some(t, s)
	want, err := s.List("", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	removeIndex(t, dir)
	index := filepath.Join(dir, "v1", "index.sqlite")
	if err := os.Mkdir(index, 0o755); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk.OS{}, dir)
	list := func() {
		t.Helper()
		got, err := s.List("", 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("builds (-want +got):\n%s", diff)
		}
	}
	list()
	added := buildOf("alpha", 500)
	mustCommit(t, s, added, nil, nil)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			if id, err := s.Resolve(added.UUID.String()); err != nil || id != added.UUID {
				t.Errorf("resolving: %v, %v", id, err)
			}
		})
	}
	readers.Wait()
	if want, err = s.List("", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(index); err != nil {
		t.Fatalf("it was touched: %v", err)
	}
	s = open(t, disk.OS{}, dir)
	list()
	if info, err := os.Stat(index); err != nil || !info.Mode().IsRegular() {
		t.Errorf("there is no index: %v", err)
	}
}

// TestIndexKeepsRemoved: a build that goes while the index does not let it go is out of
// the index after the next Prune.
func TestIndexKeepsRemoved(t *testing.T) {
	for _, refused := range []string{"DELETE", "INSERT"} {
		t.Run(refused, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			if _, err := s.List("", 0); err != nil {
				t.Fatal(err)
			}
			exec := onIndex(t, dir)
			exec("CREATE TRIGGER refuse BEFORE " + refused + " ON builds BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
			b := mustCommit(t, s, buildOf("alpha", 1), nil, nil)
			_, err := s.Prune(t.Context(), false, func(builds []retention.Build) (store.Decision, error) {
				return store.Decision{Verdicts: []retention.Verdict{{Build: builds[0], Fate: retention.Remove}}}, nil
			})
			if err == nil {
				t.Error("the index refuses, and nobody is told")
			}
			_, built := s.Build(b.UUID)
			_, _, exported := s.Export(b.UUID)
			for _, err := range []error{built, exported} {
				if !errors.Is(err, store.ErrNotFound) {
					t.Errorf("reading what has gone: %v", err)
				}
			}
			exec("DROP TRIGGER refuse")
			if _, err := s.Prune(t.Context(), false, keepAll); err != nil {
				t.Fatal(err)
			}
			if builds, err := s.List("", 0); len(builds) > 0 || err != nil {
				t.Errorf("build %v is gone, listed are %v, %v", b.UUID, builds, err)
			}
		})
	}
}
