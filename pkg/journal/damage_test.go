package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/journal"

	"github.com/google/go-cmp/cmp"
)

// files is the content of the files in dir, by name.
type files map[string][]byte

func readFiles(t testing.TB, fsys disk.FS) files {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := files{}
	for _, entry := range entries {
		f, err := fsys.OpenFile(filepath.Join(dir, entry.Name()), os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if all[entry.Name()], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return all
}

// disk puts the files on a new disk.
func (all files) disk(t testing.TB) *disktest.FS {
	t.Helper()
	fsys := disktest.New(1)
	if err := disk.MkdirAll(fsys, dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range all {
		f, err := fsys.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return fsys
}

// with returns the files with other data in one of them.
func (all files) with(name string, data []byte) files {
	changed := files{}
	for other := range all {
		changed[other] = all[other]
	}
	changed[name] = data
	return changed
}

// history is a snapshot at batch 4, closed segments with batches 5 to 7 and 8 to
// 9, and the newest with 10 to 12; and the states after each batch.
func history(t testing.TB) (files, []string) {
	t.Helper()
	fsys := disktest.New(1)
	j, state, err := open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	states := []string{state.String()}
	for seq := 1; seq <= 12; seq++ {
		batch := [][]byte{fmt.Appendf(nil, "set %d %d", seq%5, seq), fmt.Appendf(nil, "delete %d", seq%3)}
		if err := j.Append(batch...); err != nil {
			t.Fatal(err)
		}
		state = state.after(batch)
		states = append(states, state.String())
		switch seq {
		case 4:
			if err := j.Compact(); err != nil {
				t.Fatal(err)
			}
		case 7, 9: // the segment gets its name, the snapshot does not
			fsys.Inject(disktest.Fault{Op: disktest.OpRename, N: 2, Err: syscall.ENOSPC})
			if err := j.Compact(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Compact: %v, want no space", err)
			}
			fsys.Heal()
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	all := readFiles(t, fsys)
	var names []string
	for _, name := range []string{snapshotFile, "journal-0000000000000005", "journal-0000000000000008", newestFile} {
		if all[name] != nil {
			names = append(names, name)
		}
	}
	if len(names) != 4 || len(all) != 4 {
		t.Fatalf("the history is in %v, %d files", names, len(all))
	}
	return all, states
}

const (
	snapshotFile = "snapshot-0000000000000004"
	newestFile   = "journal-000000000000000a"
)

// check opens a history in which the octets of name from offset on are not as
// written. Damage must be refused, with file and offset, and with nothing
// changed; the end of the newest segment may be cut off.
func check(t *testing.T, all files, states []string, name string, offset int) {
	t.Helper()
	fsys := all.disk(t)
	j, state, err := open(fsys)
	if err == nil {
		defer j.Close()
		seq := j.Seq()
		if name != newestFile || seq < 9 || seq > 12 || state.String() != states[seq] {
			t.Errorf("%s changed at %d: opened at batch %d as %v", name, offset, seq, state)
		}
		return
	}
	var damage *journal.DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("%s changed at %d: %v, want a DamageError", name, offset, err)
	}
	if damage.File != filepath.Join(dir, name) || damage.Offset > int64(offset) || damage.Offset < 0 {
		t.Errorf("%s changed at %d: %v", name, offset, err)
	}
	if left := readFiles(t, fsys); !reflect.DeepEqual(all, left) { // fast, for each of thousands
		t.Errorf("%s changed at %d: refused, but changed:\n%s", name, offset, cmp.Diff(all, left))
	}
}

func TestEveryBitFlip(t *testing.T) {
	all, states := history(t)
	for name, data := range all {
		for i := range len(data) * 8 {
			flipped := bytes.Clone(data)
			flipped[i/8] ^= 1 << (i % 8)
			check(t, all.with(name, flipped), states, name, i/8)
		}
	}
}

func TestEveryTruncation(t *testing.T) {
	all, states := history(t)
	for name, data := range all {
		for size := range data {
			check(t, all.with(name, data[:size]), states, name, size)
		}
	}
}

// Only the last batch can be taken for a torn write.
func TestFlipBeforeTheLastBatch(t *testing.T) {
	all, states := history(t)
	opened := 0
	newest := all[newestFile]
	batch := (len(newest) - 48) / 3
	for i := range len(newest) {
		flipped := bytes.Clone(newest)
		flipped[i] ^= 0x10
		j, state, err := open(all.with(newestFile, flipped).disk(t))
		last := i >= len(newest)-batch
		if (err == nil) != last {
			t.Fatalf("octet %d flipped: error %v", i, err)
		}
		if err != nil {
			continue
		}
		opened++
		if got, want := state.String(), states[11]; got != want || j.Seq() != 11 {
			t.Errorf("octet %d flipped: batch %d, %v, want %v", i, j.Seq(), got, want)
		}
	}
	if opened == 0 {
		t.Error("a flip in the last batch was never taken for a torn write")
	}
}

func TestMissingFile(t *testing.T) {
	all, _ := history(t)
	for name := range all {
		if name == newestFile {
			continue // nothing says that it was there
		}
		rest := files{}
		for other := range all {
			if other != name {
				rest[other] = all[other]
			}
		}
		var damage *journal.DamageError
		if _, _, err := open(rest.disk(t)); !errors.As(err, &damage) {
			t.Errorf("without %s: %v, want a DamageError", name, err)
		}
	}
	alone := files{snapshotFile: all[snapshotFile]}
	var damage *journal.DamageError
	if _, _, err := open(alone.disk(t)); !errors.As(err, &damage) {
		t.Errorf("a snapshot without its segment: %v, want a DamageError", err)
	}
}

// The octets of a whole segment inside a record are no batch of the segment that
// the record is in: when the write is torn, they do not look like later batches.
func TestRecordThatLooksLikeBatches(t *testing.T) {
	all, _ := history(t)
	fsys := disktest.New(1)
	j, _, err := journal.Open(fsys, dir, newBlob, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range [][]byte{[]byte("first"), all["journal-0000000000000005"]} {
		if err := j.Append(record); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	name := "journal-0000000000000001"
	data := readFiles(t, fsys)[name]
	torn := files{name: data[:len(data)-1]}.disk(t)
	_, state, err := journal.Open(torn, dir, newBlob, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first"}, state.records); diff != "" {
		t.Error(diff)
	}
}

// What no longer counts is removed when the journal is opened; other files are
// left alone.
func TestOpenTidies(t *testing.T) {
	all, states := history(t)
	newest := all[newestFile]
	found := all.with(newestFile, append(bytes.Clone(newest), newest[48:60]...))
	for _, name := range []string{"journal-0000000000000001", "snapshot-0000000000000002"} {
		found[name] = []byte("older")
	}
	for _, name := range []string{"journal-000000000000000d.tmp", "snapshot-0000000000000009.tmp"} {
		found[name] = []byte("not complete")
	}
	for _, name := range []string{"lock", "journal-7", "journal-000000000000000A", "snapshot-0000000000000000"} {
		found[name] = []byte("of somebody else")
		all[name] = found[name]
	}
	fsys := found.disk(t)
	j, state, err := open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if state.String() != states[12] || j.Seq() != 12 {
		t.Errorf("found batch %d, %v, want 12, %s", j.Seq(), state, states[12])
	}
	if diff := cmp.Diff(all, readFiles(t, fsys)); diff != "" {
		t.Error(diff)
	}
}
