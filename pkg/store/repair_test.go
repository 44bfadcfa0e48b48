package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
)

// TestRepair moves aside what is damaged, whatever lies there, and a build brings
// it once more.
func TestRepair(t *testing.T) {
	dir := scratch(t)
	directory(t, dir)
	for round := range 3 {
		if err := errors.Join(flip(3)(filepath.Join(dir, contentName(shared))), lay(filepath.Join(dir, "v1/content/ab/text"))); err != nil {
			t.Fatal(err)
		}
		_, found := verify(t, disk.OS{}, dir, store.VerifyOptions{Repair: true})
		suffix := ""
		if round > 0 {
			suffix = fmt.Sprint("-", round)
		}
		aside := filepath.Join("v1/damaged", job.ContentOf([]byte(shared)).String()+suffix)
		var moved []string
		for _, d := range found {
			moved = append(moved, d.Aside)
		}
		// Each round makes one more build of it; the last is the file that is no content.
		want := append(slices.Repeat([]string{aside}, 2+round), "v1/damaged/text"+suffix)
		if diff := cmp.Diff(want, moved); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		if data, err := os.ReadFile(filepath.Join(dir, aside)); err != nil || len(data) != len(shared) {
			t.Errorf("%q was moved: %v", data, err)
		}
		s := open(t, disk.OS{}, dir)
		if _, err := read(s.OpenContent(job.ContentOf([]byte(shared)))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading it: %v", err)
		}
		b := buildOf("again", 20+round)
		d, err := s.Begin(b.Job, b.UUID)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Offer(offered(file{"b", shared})); err != nil || len(d.Lacking()) != 1 {
			t.Fatalf("it is not wanted: %v", err)
		}
		if err := deliver(d, shared, 0, len(shared)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit(b); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, found := verify(t, disk.OS{}, dir, store.VerifyOptions{Repair: true}); len(found) > 0 {
			t.Errorf("after it came once more: %v", found)
		}
	}
}

// TestRepairPowerCut cuts the power in every operation of a repair: the damaged
// octets are in their place or aside, and aside when that was said.
func TestRepairPowerCut(t *testing.T) {
	const dir = "/data"
	for _, seed := range seeds(t, 20) {
		for n := 1; ; n++ {
			fsys := disktest.New(seed + uint64(n))
			name, octets := damagedDisk(t, fsys, dir)
			fsys.CutAt(n)
			var aside string
			_, err := store.Verify(t.Context(), fsys, dir, store.VerifyOptions{Repair: true, Report: func(d store.Damage) { aside = d.Aside }})
			left := fsys.Crash()
			places := []string{name, filepath.Join("v1/damaged", filepath.Base(name))}
			var found []string
			for _, place := range places {
				if data, err := readOn(left, filepath.Join(dir, place)); err == nil && data == octets {
					found = append(found, place)
				}
			}
			if len(found) != 1 || err == nil && (aside != places[1] || found[0] != aside) {
				t.Fatalf("seed %d, power cut in operation %d: it lies in %q, moved to %q, %v", seed, n, found, aside, err)
			}
			if err == nil {
				break
			}
		}
	}
}

// damagedDisk lays a durable content there whose octets are others.
func damagedDisk(t *testing.T, fsys disk.FS, dir string) (name, octets string) {
	t.Helper()
	name, octets = contentName("right"), "wrong"
	at := filepath.Join(dir, name)
	if err := disk.MkdirAll(fsys, filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile(at, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(octets))
	if err = errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(filepath.Dir(at))); err != nil {
		t.Fatal(err)
	}
	return name, octets
}

func readOn(fsys disk.FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	return read(f, err)
}
