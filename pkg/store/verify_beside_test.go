package store_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/store"

	"github.com/google/uuid"
)

// TestVerifyBesideStore verifies while builds are made, abandoned, discarded,
// pruned and removed.
func TestVerifyBesideStore(t *testing.T) {
	dir := scratch(t)
	directory(t, dir)
	s := open(t, disk.OS{}, dir)
	building := &buildings{ids: map[uuid.UUID]bool{}}
	done := make(chan error, 1)
	go func() {
		for n := 10; n < 70; n++ {
			if err := churn(s, dir, n, building); err != nil {
				done <- fmt.Errorf("build %d: %w", n, err)
				return
			}
		}
		done <- nil
	}()
	schedule := func() (store.Scheduled, error) {
		known := building.clone()
		return store.Scheduled{Building: func(id uuid.UUID) bool { return known[id] }}, nil
	}
	rounds := 0
	for running := true; running; rounds++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		if _, found := verify(t, disk.OS{}, dir, store.VerifyOptions{Schedule: schedule}); len(found) > 0 {
			t.Fatalf("found %v", found)
		}
	}
	t.Logf("%d rounds", rounds)
}

// churn makes the n-th build, and perhaps removes something of it afterwards.
func churn(s *store.Store, dir string, n int, building *buildings) error {
	b := buildOf("churn", n)
	building.set(b.UUID, true)
	d, err := s.Begin(b.Job, b.UUID)
	if err != nil {
		return err
	}
	data := fmt.Sprint("offered ", n)
	if err := fill(d, []string{"one", "two"}, []file{{"added", fmt.Sprint("added ", n)}}); err != nil {
		return err
	}
	if err := d.Offer(offered(file{"x", data})); err != nil {
		return err
	}
	if err := deliver(d, data, 0, len(data)); err != nil {
		return err
	}
	if n%5 == 0 {
		err := d.Discard()
		building.set(b.UUID, false)
		return err
	}
	_, err = d.Commit(b)
	building.set(b.UUID, false)
	at := filepath.Join(dir, "v1/builds/churn", b.UUID.String())
	switch {
	case err != nil:
		return err
	case n%5 == 1: // as retention removes contents
		return errors.Join(os.WriteFile(filepath.Join(at, "pruned"), nil, 0o644), os.Remove(filepath.Join(dir, contentName(data))))
	case n%5 == 2: // as it removes a build
		return errors.Join(os.Rename(at, at+".removed"), os.Remove(filepath.Join(dir, contentName(data))), os.RemoveAll(at+".removed"))
	}
	return nil
}

// buildings are the builds that go on, as the schedule knows them.
type buildings struct {
	mu  sync.Mutex
	ids map[uuid.UUID]bool
}

func (b *buildings) set(id uuid.UUID, goesOn bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids[id] = goesOn
}

func (b *buildings) clone() map[uuid.UUID]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.ids)
}
