package journal_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"builder/pkg/journal"

	"github.com/google/go-cmp/cmp"
)

// reseal makes all checksums of a file right, so that arbitrary octets get past
// them. It follows the table in the package comment, not the code.
func reseal(data []byte) []byte {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	data = append([]byte(nil), data...)
	if len(data) < 48 {
		return data
	}
	binary.BigEndian.PutUint32(data[44:], crc32.Checksum(data[:44], castagnoli))
	salt := data[12:28]
	sum := func(p []byte) uint32 {
		return crc32.Checksum(append(append([]byte(nil), salt...), p...), castagnoli)
	}
	for rest := data[48:]; len(rest) >= 20; {
		length := uint64(binary.BigEndian.Uint32(rest))
		body := rest[20:]
		if length <= uint64(len(body)) {
			body = body[:length]
			binary.BigEndian.PutUint32(rest[12:], sum(body))
		}
		binary.BigEndian.PutUint32(rest[16:], sum(rest[:16]))
		rest = rest[20+len(body):]
	}
	return data
}

func FuzzJournal(f *testing.F) {
	all, _ := history(f)
	f.Add([]byte{}, all[newestFile], []byte{}, false)
	f.Add(all[snapshotFile], all["journal-0000000000000005"], all["journal-0000000000000008"], false)
	f.Add(all[snapshotFile], all["journal-0000000000000005"], all["journal-0000000000000008"], true)
	f.Fuzz(func(t *testing.T, snapshot, older, newer []byte, sealed bool) {
		if sealed {
			snapshot, older, newer = reseal(snapshot), reseal(older), reseal(newer)
		}
		found := files{}
		for name, data := range map[string][]byte{
			snapshotFile: snapshot, "journal-0000000000000005": older, "journal-0000000000000008": newer,
		} {
			if len(data) > 0 {
				found[name] = data
			}
		}
		fsys := found.disk(t)
		j, state, err := journal.Open(fsys, dir, newBlob, journal.Options{})
		if err != nil {
			return
		}
		batch := j.Seq()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		again := func() {
			t.Helper()
			var reopened *blob
			if j, reopened, err = journal.Open(fsys, dir, newBlob, journal.Options{}); err != nil {
				t.Fatalf("opened once, but not again: %v", err)
			}
			if diff := cmp.Diff(state.records, reopened.records); diff != "" || j.Seq() != batch {
				t.Fatalf("opened again at batch %d in place of %d: %s", j.Seq(), batch, diff)
			}
		}
		again()
		if err := j.Compact(); err != nil {
			t.Fatalf("compacting what was opened: %v", err)
		}
		again()
	})
}

// A length is believed only when it fits the file.
func TestHugeLengths(t *testing.T) {
	all, states := history(t)
	huge := func(name string, at int) files {
		data := append([]byte(nil), all[name]...)
		binary.BigEndian.PutUint32(data[at:], 0xffffffff)
		return all.with(name, reseal(data))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, name := range []string{snapshotFile, "journal-0000000000000005"} {
		for _, at := range []int{48, 68} { // of the first batch, of the first record
			var damage *journal.DamageError
			if _, _, err := open(huge(name, at).disk(t)); !errors.As(err, &damage) {
				t.Errorf("%s at %d: %v, want a DamageError", name, at, err)
			}
		}
	}
	// In the newest segment this is a torn write: what is behind it has the same
	// number or lower ones, or is inside it.
	_, state, err := open(files{
		snapshotFile: all[snapshotFile], "journal-0000000000000005": huge("journal-0000000000000005", 48)["journal-0000000000000005"][:69],
	}.disk(t))
	if err != nil {
		t.Fatal(err)
	}
	if state.String() != states[4] {
		t.Errorf("found %v, want %s", state, states[4])
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 4<<20 {
		t.Errorf("took %d octets of memory", taken)
	}
}
