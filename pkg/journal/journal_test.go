package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/journal"

	"github.com/google/go-cmp/cmp"
)

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "journal")
	large := strings.Repeat("x", 200<<10)
	var want []string
	for round := range 4 {
		j, state, err := journal.Open(disk.OS{}, path, newBlob, journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, state.records); diff != "" {
			t.Fatalf("round %d: %s", round, diff)
		}
		batch := []string{"", fmt.Sprint(round), large}
		if err := j.Append([]byte(batch[0]), []byte(batch[1]), []byte(batch[2])); err != nil {
			t.Fatal(err)
		}
		want = append(want, batch...)
		if round%2 == 1 {
			if err := j.Compact(); err != nil {
				t.Fatal(err)
			}
		}
		if got := j.Seq(); got != uint64(round+1) {
			t.Errorf("batch %d, want %d", got, round+1)
		}
		state, err = j.Reload()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, state.records); diff != "" {
			t.Errorf("reload in round %d: %s", round, diff)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendRefusesWhatIsTooLarge(t *testing.T) {
	j, _, err := journal.Open(disk.OS{}, t.TempDir(), newBlob, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	largest := make([]byte, 16<<20-4)
	if err := j.Append(largest, nil); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a batch over the limit: %v", err)
	}
	if err := j.Append(largest); err != nil {
		t.Errorf("a batch at the limit: %v", err)
	}
	state, err := j.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if len(state.records) != 1 || !bytes.Equal([]byte(state.records[0]), largest) {
		t.Errorf("found %d records, want the largest one", len(state.records))
	}
}

func TestClosed(t *testing.T) {
	j, _, err := open(disktest.New(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := j.Append([]byte("set 1 1")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if err := j.Compact(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Compact: %v", err)
	}
}

func TestCompactDue(t *testing.T) {
	fsys := disktest.New(1)
	j, _, err := journal.Open(fsys, dir, newBlob, journal.Options{SegmentSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	record := make([]byte, 300)
	appends := func() (n int) {
		for !j.CompactDue() {
			if err := j.Append(record); err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	compact := func() {
		if err := j.Compact(); err != nil {
			t.Fatal(err)
		}
		if j.CompactDue() {
			t.Error("due again at once")
		}
	}
	if n := appends(); n != 3 { // 48 + 3*324 octets
		t.Errorf("due after %d batches, want 3", n)
	}
	for range 5 {
		compact()
		appends()
	}
	compact()
	var size int64
	for name, data := range readFiles(t, fsys) {
		if strings.HasPrefix(name, "snapshot-") {
			size = int64(len(data))
		}
	}
	if size < 2000 {
		t.Fatalf("the snapshot has %d octets only", size)
	}
	if n := int64(appends()); n*324 <= size-324 {
		t.Errorf("due after %d batches of 324 octets, the snapshot has %d", n, size)
	}
}

// Append goes on while a snapshot is being written, and what it appends is not
// in that.
func TestAppendBesideCompact(t *testing.T) {
	fsys := disktest.New(1)
	hold := make(chan struct{})
	made := 0
	empty := func() *blob {
		if made++; made == 2 { // the one that Compact makes
			return &blob{hold: hold}
		}
		return newBlob()
	}
	j, _, err := journal.Open(fsys, dir, empty, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append([]byte("before")); err != nil {
		t.Fatal(err)
	}
	compacted := make(chan error, 1)
	go func() { compacted <- j.Compact() }()
	<-hold
	if err := j.Append([]byte("beside")); err != nil {
		t.Fatal(err)
	}
	state, err := j.Reload()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"before", "beside"}
	if diff := cmp.Diff(want, state.records); diff != "" {
		t.Error(diff)
	}
	hold <- struct{}{}
	if err := <-compacted; err != nil {
		t.Fatal(err)
	}
	_, state, err = journal.Open(fsys, dir, newBlob, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, state.records); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrent(t *testing.T) {
	fsys := disktest.New(1)
	j, state, err := open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	var compactor sync.WaitGroup
	done := make(chan struct{})
	compactor.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := j.Compact(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 300 {
		batch := [][]byte{fmt.Appendf(nil, "set %d %d", i%20, i)}
		if err := j.Append(batch...); err != nil {
			t.Fatal(err)
		}
		state = state.after(batch)
		if i%50 == 0 {
			found, err := j.Reload()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(state.String(), found.String()); diff != "" {
				t.Fatal(diff)
			}
		}
	}
	close(done)
	compactor.Wait()
	j.Close()
	_, found, err := open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state.String(), found.String()); diff != "" {
		t.Error(diff)
	}
}

func TestApplyErrorIsDamage(t *testing.T) {
	fsys := disktest.New(1)
	j, _, err := open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("set 1 1")); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	var damage *journal.DamageError
	_, _, err = open(fsys)
	if !errors.As(err, &damage) {
		t.Fatalf("%v, want a DamageError", err)
	}
	const second = 48 + 20 + 4 + 7
	if damage.Offset != second || !strings.Contains(err.Error(), `unknown record "nonsense"`) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("%v, want offset %d, the record, and what to do", err, second)
	}
}
