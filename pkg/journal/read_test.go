package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/journal"

	"github.com/google/go-cmp/cmp"
)

// TestRead: it finds what Open would find, and leaves a torn write where it is.
func TestRead(t *testing.T) {
	fsys := disktest.New(1)
	if _, err := journal.Read(fsys, dir, newLedger); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no directory: %v", err)
	}
	j, want, err := open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		batch := [][]byte{fmt.Appendf(nil, "set k%d v%d", n%7, n)}
		if err := j.Append(batch...); err != nil {
			t.Fatal(err)
		}
		want = want.after(batch)
		if n%11 == 10 {
			if err := j.Compact(); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := journal.Read(fsys, dir, newLedger); err != nil || got.String() != want.String() {
			t.Fatalf("after %d batches: %v, %v, want %v", n+1, got, err, want)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	all := readFiles(t, fsys)
	newest := ""
	for name := range all {
		if strings.HasPrefix(name, "journal-") && name > newest {
			newest = name
		}
	}
	torn := all.with(newest, append(all[newest][:len(all[newest]):len(all[newest])], "half a batch"...)).disk(t)
	before := readFiles(t, torn)
	if got, err := journal.Read(torn, dir, newLedger); err != nil || got.String() != want.String() {
		t.Errorf("with a torn write: %v, %v, want %v", got, err, want)
	}
	if diff := cmp.Diff(before, readFiles(t, torn)); diff != "" {
		t.Errorf("the files were changed: %s", diff)
	}
	flipped := append([]byte(nil), all[newest]...)
	flipped[60] ^= 1
	var damage *journal.DamageError
	if _, err := journal.Read(all.with(newest, flipped).disk(t), dir, newLedger); !errors.As(err, &damage) || filepath.Base(damage.File) != newest {
		t.Errorf("of a damaged journal: %v", err)
	}
}

// TestReadBesideOwner reads while another goroutine appends and compacts: a state
// is never one that went back.
func TestReadBesideOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j, _, err := journal.Open(disk.OS{}, dir, newLedger, journal.Options{SegmentSize: 300})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < 300 && err == nil; n++ {
			if err = j.Append(fmt.Appendf(nil, "set n %d", n)); err == nil && n%5 == 0 {
				err = j.Compact()
			}
		}
		done <- err
	}()
	last := -1
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		state, err := journal.Read(disk.OS{}, dir, newLedger)
		if err != nil {
			t.Fatal(err)
		}
		n := -1
		if text := state.values["n"]; text != "" {
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatal(err)
			}
		}
		if n < last {
			t.Fatalf("batch %d was read after %d", n, last)
		}
		last = n
	}
	if last != 299 {
		t.Errorf("the last batch read is %d", last)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
