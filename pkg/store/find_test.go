package store_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// found are the builds with an artifact of that text, and how many they have of it.
func found(t *testing.T, s *store.Store, text string, limit int) []string {
	t.Helper()
	builds, err := s.Find(job.ContentOf([]byte(text)).SHA256, limit)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range builds {
		for _, a := range b.Artifacts {
			all = append(all, fmt.Sprintf("%d %s", b.Started.Sub(began)/time.Second, a.Path))
		}
	}
	return all
}

func texts(paths ...string) []file {
	var files []file
	for _, path := range paths {
		name, content, _ := strings.Cut(path, "=")
		files = append(files, file{path: name, data: content})
	}
	return files
}

// TestFind: the builds that have a content, newest first; also after a start with
// the index, and one without.
func TestFind(t *testing.T) {
	dir := scratch(t)
	takeOver(t, dir)
	s := open(t, disk.OS{}, dir)
	const first = 100 // behind the vectors' numbers
	mustCommit(t, s, buildOf("alpha", first+1), nil, texts("a=same", "b=same", "c=other"))
	mustCommit(t, s, buildOf("beta", first+3), nil, texts("x/y=same"))
	mustCommit(t, s, buildOf("alpha", first+2), nil, texts("c=same", "d=once"))
	look := func() {
		t.Helper()
		for _, c := range []struct {
			text  string
			limit int
			want  []string
		}{
			{"same", 10, []string{"103 x/y", "102 c", "101 a", "101 b"}},
			{"same", 2, []string{"103 x/y", "102 c"}},
			{"once", 10, []string{"102 d"}},
			{"nowhere", 10, nil},
			{"ELF\xff\x00\x01", 10, []string{"0 bin/out.bin"}}, // the reference's
		} {
			got := found(t, s, c.text, c.limit)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", c.text, diff)
			}
		}
	}
	look()
	s = reopen(t, s, dir)
	look()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	removeIndex(t, dir)
	s = open(t, disk.OS{}, dir)
	look()
}

// TestFindAmongMany: of a build with very many artifacts each is found; also when
// the server was killed before all of them were in the index.
func TestFindAmongMany(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	var files []file
	for i := range 5000 {
		files = append(files, file{path: fmt.Sprint("f", i), data: fmt.Sprint("content ", i)})
	}
	mustCommit(t, s, buildOf("alpha", 1), nil, files)
	look := func() {
		t.Helper()
		for _, i := range []int{0, 1, 99, 100, 1999, 2000, 4999} {
			if got := found(t, s, fmt.Sprint("content ", i), 9); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprint(" f", i)) {
				t.Errorf("artifact %d: %v", i, got)
			}
		}
	}
	look()
	for _, statement := range []string{"UPDATE builds SET whole = 0", "DELETE FROM artifacts WHERE hash > 0"} {
		if _, err := s.Database().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s, dir)
	look()
	s = reopen(t, s, dir)
	var whole int
	if err := s.Database().QueryRow("SELECT whole FROM builds").Scan(&whole); err != nil || whole != 1 {
		t.Errorf("whole is %d, %v", whole, err)
	}
}

// TestFindGone: of builds that were removed nothing is found, and nothing stays.
func TestFindGone(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	mustCommit(t, s, buildOf("alpha", 1), nil, texts("a=same"))
	mustCommit(t, s, buildOf("alpha", 2), nil, texts("b=same"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(recordName(dir, "alpha", 1))); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk.OS{}, dir)
	if got := found(t, s, "same", 9); len(got) != 1 || !strings.HasSuffix(got[0], " b") {
		t.Errorf("found %v", got)
	}
	var n int
	if err := s.Database().QueryRow("SELECT count(*) FROM artifacts").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d artifacts in the index, %v", n, err)
	}
}

// TestFindWithoutIndex: what could not be written is found all the same.
func TestFindWithoutIndex(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	mustCommit(t, s, buildOf("alpha", 1), nil, texts("a=same"))
	found(t, s, "same", 9) // writes it
	if _, err := s.Database().Exec("CREATE TRIGGER refuse BEFORE INSERT ON builds BEGIN SELECT RAISE(FAIL, 'full'); END"); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, buildOf("alpha", 2), nil, texts("b=same"))
	if got := found(t, s, "same", 9); len(got) != 2 || !strings.HasSuffix(got[0], " b") {
		t.Errorf("found %v", got)
	}
}

// TestOutputs: lists tell what builds came to, and which succeeded last.
func TestOutputs(t *testing.T) {
	dir := scratch(t)
	takeOver(t, dir)
	s := open(t, disk.OS{}, dir)
	const first = 100
	var stored []job.Build
	for n, files := range [][]file{
		texts("bin/x=one", "opam-switch=a", "build-environment=b", "system-packages=c"), texts("bin/x=two"), texts("bin/x=1", "bin/y=2"), nil,
	} {
		b := buildOf("alpha", first+n)
		b.Result.Code = int64(n / 2) // the last two fail
		stored = append([]job.Build{mustCommit(t, s, b, nil, files)}, stored...)
	}
	for range 2 {
		builds, outputs, err := s.ListOutputs("alpha", 0)
		if err != nil || len(builds) != len(stored) || len(outputs) != len(stored) {
			t.Fatalf("%d builds, %d outputs: %v", len(builds), len(outputs), err)
		}
		for i, b := range stored {
			if diff := cmp.Diff(job.OutputOf(b.Artifacts), outputs[i]); diff != "" || builds[i].UUID != b.UUID {
				t.Errorf("build %v (-want +got):\n%s", builds[i].UUID, diff)
			}
		}
		if id, err := s.LatestSuccess("alpha", "debian-12"); id != number(first+1) || err != nil {
			t.Errorf("the latest success: %v, %v", id, err)
		}
		if _, err := s.LatestSuccess("alpha", "plan9"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the latest success on no platform: %v", err)
		}
		s = reopen(t, s, dir)
	}
	_, outputs, err := s.ListOutputs("hello", 0)
	if err != nil || !cmp.Equal(outputs[len(outputs)-1], job.Output{}) {
		t.Errorf("outputs of the reference: %v, %v", outputs, err)
	}
	mains := 0
	for _, o := range outputs {
		if o.Path == "bin/out.bin" && o.Main == job.ContentOf([]byte("ELF\xff\x00\x01")) {
			mains++
		}
	}
	if mains != 1 {
		t.Errorf("%d of the reference's results have the main artifact", mains)
	}
}

// TestSelect: artifacts are read from any offset on; ours, and the reference's.
func TestSelect(t *testing.T) {
	dir := scratch(t)
	takeOver(t, dir)
	s := open(t, disk.OS{}, dir)
	mustCommit(t, s, buildOf("alpha", 100), nil, texts("empty=", "bin/out.bin=ELF\xff\x00\x01"))
	for name, id := range map[string]uuid.UUID{"ours": number(100), "the reference's": number(1)} {
		t.Run(name, func(t *testing.T) {
			all, err := s.Select(id, []string{"bin/out.bin", "none", "empty", "bin/out.bin"})
			if err != nil || len(all) != 4 || all[0] == nil || all[1] != nil || all[2] == nil || all[3] == nil {
				t.Fatalf("selected %v, %v", all, err)
			}
			const want = "ELF\xff\x00\x01"
			for offset := range int64(len(want) + 1) {
				if got, err := read(all[0].Open(offset)); got != want[offset:] || err != nil {
					t.Errorf("from %d on: %q, %v", offset, got, err)
				}
			}
			for _, offset := range []int64{-1, 7, 1 << 62} {
				if _, err := all[0].Open(offset); err == nil {
					t.Errorf("opened from %d on", offset)
				}
			}
			if got, err := read(all[2].Open(0)); got != "" || err != nil {
				t.Errorf("the empty one: %q, %v", got, err)
			}
		})
	}
	if _, err := s.Select(number(99), nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no build: %v", err)
	}
}

// TestSelectDamaged: changed octets are found before the last one is given.
func TestSelectDamaged(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	b := mustCommit(t, s, buildOf("alpha", 1), nil, texts("a=0123456789"))
	name := b.Artifacts[0].String()
	write(t, filepath.Join(dir, "v1/content", name[:2], name), []byte("0123x56789"))
	all, err := s.Select(b.UUID, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	in, err := all[0].Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if data, err := io.ReadAll(in); len(data) >= 10 || !errors.Is(err, store.ErrDamaged) {
		t.Errorf("read %q, %v", data, err)
	}
}
