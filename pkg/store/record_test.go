package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

func recordName(dir, directory string, n int) string {
	return filepath.Join(dir, "v1/builds", directory, number(n).String(), "record")
}

// TestDamagedRecords flips every bit of a record and cuts it everywhere.
func TestDamagedRecords(t *testing.T) {
	dir := scratch(t)
	s := open(t, noBarrier{disk.OS{}}, dir) // it is in no log
	want := mustCommit(t, s, buildOf("hello", 1), []string{"a line"}, []file{{"a", "data"}})
	name := recordName(dir, "hello", 1)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Build(number(1)); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for bit := range 8 * len(whole) {
		data := bytes.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		check(fmt.Sprintf("bit %d flipped", bit), data)
	}
	for size := range whole {
		check(fmt.Sprintf("cut to %d octets", size), whole[:size])
	}
	if _, ok, err := s.Recorded("hello", number(1)); ok || err != nil {
		t.Errorf("a damaged record is recorded (%v)", err)
	}

	// At a start the others are there, and the damaged one is listed as such.
	other := mustCommit(t, s, buildOf("hello", 2), nil, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	removeIndex(t, dir)
	s = open(t, disk.OS{}, dir)
	list, err := s.List("hello", 0)
	if err != nil || len(list) != 2 || list[0].UUID != other.UUID || list[1].Result.Kind != job.Failed ||
		!strings.Contains(list[1].Result.Text, name) {
		t.Errorf("listed: %v, %v", list, err)
	}

	// When it was mended, it is itself again.
	if err := os.WriteFile(name, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	want.Artifacts = nil
	list, err = s.List("hello", 0)
	if err != nil || len(list) != 2 {
		t.Fatalf("listed: %v, %v", list, err)
	}
	if diff := cmp.Diff(want, list[1]); diff != "" {
		t.Errorf("mended (-want +got):\n%s", diff)
	}
}

func TestNewerRecord(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	mustCommit(t, s, buildOf("hello", 1), nil, nil)
	name := recordName(dir, "hello", 1)
	if err := os.WriteFile(name, newerRecord(t, name), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(number(1)); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a record of version 2: %v", err)
	}
}

// TestTorn: what a power cut may leave of a commit that was under way is neither a
// record nor an error, and the build can be made again.
func TestTorn(t *testing.T) {
	tests := []struct {
		name, file string
		damage     func([]byte) []byte // nil removes the file
	}{
		{"record empty", "record", func([]byte) []byte { return nil }},
		{"record cut", "record", func(b []byte) []byte { return b[:len(b)-1] }},
		{"record of zeros", "record", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"no console", "console", nil},
		{"no index of the console", "console.index", nil},
		{"console cut", "console", func(b []byte) []byte { return b[:4] }},
		{"console of zeros", "console", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"index of the console cut", "console.index", func(b []byte) []byte { return b[:24] }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			b := mustCommit(t, s, buildOf("hello", 1), []string{"one", "two"}, nil)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(filepath.Dir(recordName(dir, "hello", 1)), test.file), test.damage)
			s, err := store.Open(disk.OS{}, dir, func(id uuid.UUID) bool { return id == b.UUID }, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, ok, err := s.Recorded("hello", b.UUID); ok || err != nil {
				t.Errorf("it is recorded (%v)", err)
			}
			if list, err := s.List("", 0); len(list) > 0 || err != nil {
				t.Errorf("listed: %v, %v", list, err)
			}
			d, err := s.Resume("hello", b.UUID)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Commit(b); err != nil {
				t.Fatal(err)
			}
			if list, err := s.List("", 0); len(list) != 1 || err != nil {
				t.Errorf("made again, and listed: %v, %v", list, err)
			}
		})
	}
}

func damage(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	if change == nil {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestLostConsole: a console that was cut where a line ends looks sound by itself.
func TestLostConsole(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	b := mustCommit(t, s, buildOf("hello", 1), []string{"one", "two"}, nil)
	at := filepath.Dir(recordName(dir, "hello", 1))
	for name, size := range map[string]int64{"console": 4, "console.index": 32} {
		if err := os.Truncate(filepath.Join(at, name), size); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := linesOf(s, b.UUID, 0); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("replaying a console that was cut: %v", err)
	}
	if _, _, err := s.Export(b.UUID); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("exporting a console that was cut: %v", err)
	}
}

// TestDamagedContents: what is missing or cut is told before an export begins;
// what was changed is never given to its last octet.
func TestDamagedContents(t *testing.T) {
	data := strings.Repeat("0123456789", 100_000)
	changed := "x" + data[1:]
	for name, damage := range map[string]func(file string) error{
		"missing": os.Remove,
		"cut":     func(file string) error { return os.Truncate(file, 1000) },
		"changed": func(file string) error { return os.WriteFile(file, []byte(changed), 0o644) },
	} {
		for what, content := range map[string]job.Content{
			"artifact": job.ContentOf([]byte(data)), "empty artifact": job.ContentOf(nil), "script": job.ContentOf([]byte("#!/bin/sh\n")),
		} {
			if content.Size < 1000 && name != "missing" {
				continue // too short to be cut, or changed, like that
			}
			t.Run(name+" "+what, func(t *testing.T) {
				dir := scratch(t)
				s := open(t, disk.OS{}, dir)
				b := buildOf("hello", 1)
				var err error
				if b.Script, err = s.Put(strings.NewReader("#!/bin/sh\n")); err != nil {
					t.Fatal(err)
				}
				mustCommit(t, s, b, nil, []file{{"a", data}, {"empty", ""}})
				if err := damage(filepath.Join(dir, "v1/content", content.String()[:2], content.String())); err != nil {
					t.Fatal(err)
				}
				size, write, err := s.Export(b.UUID)
				if name != "changed" {
					if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), content.String()) {
						t.Errorf("exporting: %v", err)
					}
					return
				}
				var out bytes.Buffer
				if err := write(&out); !errors.Is(err, store.ErrDamaged) || int64(out.Len()) >= size {
					t.Errorf("exported %d of %d octets: %v", out.Len(), size, err)
				}
				in, _, err := s.OpenArtifact(b.UUID, "a")
				if got, err := read(in, err); !errors.Is(err, store.ErrDamaged) || got == changed {
					t.Errorf("the artifact has %d octets: %v", len(got), err)
				}
			})
		}
	}
}

func TestJobNames(t *testing.T) {
	long := strings.Repeat("/", 300)
	names := []string{
		"plain", "a.b_c+d-e", ".", "..", "", "a/b", "../../etc", "\x00", "\xff\xfe", "%", "%2F", "%~", "ä",
		".hidden", "v1", "a b", long, long + "x", strings.Repeat("n", 101),
	}
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	for n, name := range names {
		mustCommit(t, s, buildOf(name, n), []string{name}, nil)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "v1/builds"))
	if err != nil || len(entries) != len(names) {
		t.Fatalf("%d directories for %d names: %v", len(entries), len(names), err)
	}
	for range 2 {
		for n, name := range names {
			if list, err := s.List(name, 0); err != nil || name != "" && (len(list) != 1 || list[0].UUID != number(n)) {
				t.Errorf("%q: listed %v, %v", name, list, err)
			}
			if b, ok, err := s.Recorded(name, number(n)); !ok || b.Job != name || err != nil {
				t.Errorf("%q: recorded as %q: %v, %v", name, b.Job, ok, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		removeIndex(t, dir)
		s = open(t, disk.OS{}, dir)
	}

	// Without a record, the directory tells the name, unless it was too long.
	for _, entry := range entries {
		builds, err := filepath.Glob(filepath.Join(dir, "v1/builds", entry.Name(), "*", "record"))
		if err != nil || len(builds) != 1 {
			t.Fatalf("%q: %q, %v", entry.Name(), builds, err)
		}
		if err := os.Truncate(builds[0], 5); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	removeIndex(t, dir)
	s = open(t, disk.OS{}, dir)
	list, err := s.List("", 0)
	if err != nil || len(list) != len(names) {
		t.Fatalf("%d builds are listed: %v", len(list), err)
	}
	for _, b := range list {
		for n, name := range names {
			if b.UUID == number(n) && b.Job != name && len(name) < 256 {
				t.Errorf("a damaged build of %q is listed as of %q", name, b.Job)
			}
		}
	}
}

// removeIndex removes the index of a store that is closed.
func removeIndex(t testing.TB, dir string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(dir, "v1/index.sqlite"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
}

// newerRecord is a sound record of the next version.
func newerRecord(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:len(data)-4]
	data[11]++
	return binary.BigEndian.AppendUint32(data, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}
