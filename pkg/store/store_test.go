package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

var began = time.Date(2026, 11, 21, 20, 27, 26, 724000001, time.UTC)

// number is the n-th of the uuids in these tests.
func number(n int) uuid.UUID {
	id := uuid.UUID{0xab, 0xcd, 0xef, 0x01}
	binary.BigEndian.PutUint32(id[4:], uint32(n))
	return id
}

// buildOf is the n-th build, of that job, with n seconds more than the last.
func buildOf(jobName string, n int) job.Build {
	started := began.Add(time.Duration(n) * time.Second)
	return job.Build{
		UUID: number(n), Run: uint64(n), Try: 1, Job: jobName, Platform: "debian-12", Worker: "w1",
		Started: started, Finished: started.Add(time.Minute), Result: job.Result{Kind: job.Exited, Code: 3},
	}
}

func open(t testing.TB, fsys disk.FS, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(fsys, dir, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func reopen(t testing.TB, s *store.Store, dir string) *store.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, disk.OS{}, dir)
}

// file is an artifact to add.
type file struct{ path, data string }

// fill prints lines and adds files.
func fill(d *store.Draft, lines []string, files []file) error {
	for i, line := range lines {
		if err := d.Console().Append(console.Line{Delta: time.Duration(i), Data: []byte(line)}); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := d.Add(f.path, 0o755, strings.NewReader(f.data), int64(len(f.data))); err != nil {
			return err
		}
	}
	return nil
}

// commit makes the build b.
func commit(s *store.Store, b job.Build, lines []string, files []file) (job.Build, error) {
	d, err := s.Begin(b.Job, b.UUID)
	if err != nil {
		return job.Build{}, err
	}
	if err := fill(d, lines, files); err != nil {
		return job.Build{}, errors.Join(err, d.Abandon())
	}
	stored, err := d.Commit(b)
	if err != nil {
		return job.Build{}, errors.Join(err, d.Abandon())
	}
	return stored, nil
}

func mustCommit(t testing.TB, s *store.Store, b job.Build, lines []string, files []file) job.Build {
	t.Helper()
	stored, err := commit(s, b, lines, files)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// linesOf replays a console, with the data copied.
func linesOf(s *store.Store, id uuid.UUID, from int64) ([]job.Line, error) {
	var all []job.Line
	for lines, err := range s.Lines(id, from) {
		if err != nil {
			return all, err
		}
		for _, line := range lines {
			line.Data = bytes.Clone(line.Data)
			all = append(all, line)
		}
	}
	return all, nil
}

func text(lines []job.Line) []string {
	var all []string
	for _, line := range lines {
		all = append(all, string(line.Data))
	}
	return all
}

func read(in io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	return string(data), err
}

func export(t *testing.T, s *store.Store, id uuid.UUID) []byte {
	t.Helper()
	size, write, err := s.Export(id)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	if int64(out.Len()) != size {
		t.Fatalf("export has %d octets, announced were %d", out.Len(), size)
	}
	return out.Bytes()
}

func TestBuild(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	const script = "#!/bin/sh\nmake\n"
	content, err := s.Put(strings.NewReader(script))
	if err != nil {
		t.Fatal(err)
	}
	if want := job.ContentOf([]byte(script)); content != want {
		t.Fatalf("Put returned %v, want %v", content, want)
	}
	b := buildOf("hello", 1)
	b.Script = content
	b.Result = job.Result{Kind: job.Signalled, Code: 9}
	b.Notes = []string{"a link"}
	lines := []string{"first", "", "\xff\xfe\n", strings.Repeat("long", 20000)}
	files := []file{{"bin/out", "ELF"}, {"empty", ""}, {"script", script}, {"big", strings.Repeat("0123456789", 40000)}}
	stored := mustCommit(t, s, b, lines, files)

	want := b
	for _, f := range files {
		want.Artifacts = append(want.Artifacts, job.Artifact{Path: f.path, Mode: 0o755, Content: job.ContentOf([]byte(f.data))})
	}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Errorf("Commit (-want +got):\n%s", diff)
	}
	for _, found := range []string{"Build", "Latest", "Recorded"} {
		var got job.Build
		switch found {
		case "Build":
			got, err = s.Build(b.UUID)
		case "Latest":
			got, err = s.Latest("hello", "debian-12")
		case "Recorded":
			var ok bool
			if got, ok, err = s.Recorded("hello", b.UUID); !ok {
				t.Error("not recorded")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", found, err, diff)
		}
	}
	for _, f := range files {
		in, size, err := s.OpenArtifact(b.UUID, f.path)
		if got, err := read(in, err); got != f.data || err != nil || size != int64(len(got)) {
			t.Errorf("artifact %s: %d octets, want %d: %v", f.path, len(got), len(f.data), err)
		}
	}
	if _, _, err := s.OpenArtifact(b.UUID, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an artifact that is not there: %v", err)
	}
	checkConsole(t, s, b, lines)
	checkExport(t, s, b, lines, files)
}

func checkConsole(t *testing.T, s *store.Store, b job.Build, lines []string) {
	t.Helper()
	long := lines[3]
	want := []job.Line{
		{Delta: 0, Data: []byte("first")},
		{Delta: 1, Data: []byte{}},
		{Delta: 2, Data: []byte("\xff\xfe\n")},
		{Delta: 3, Data: []byte(long[:job.MaxLine]), Flags: job.Unended},
		{Delta: 3, Data: []byte(long[job.MaxLine:])},
	}
	for from := range want {
		got, err := linesOf(s, b.UUID, int64(from))
		if diff := cmp.Diff(want[from:], got, cmp.Comparer(bytes.Equal)); diff != "" || err != nil {
			t.Errorf("lines from %d: %v (-want +got):\n%s", from, err, diff)
		}
	}
	if got, err := linesOf(s, b.UUID, 99); len(got) > 0 || err != nil {
		t.Errorf("%d lines behind the end, %v", len(got), err)
	}
	for range s.Lines(b.UUID, 0) {
		break // must not go on
	}
}

// checkExport reads an export as the reference would.
func checkExport(t *testing.T, s *store.Store, b job.Build, lines []string, files []file) {
	t.Helper()
	data := export(t, s, b.UUID)
	var (
		printed []string
		got     []file
	)
	e, err := wire.ReadExec(bytes.NewReader(data), int64(len(data)), wire.ExecVisitor{
		Line: func(_ time.Duration, in io.Reader, _ int64) error {
			data, err := io.ReadAll(in)
			printed = append(printed, string(data))
			return err
		},
		File: func(path string, in io.Reader, _ int64) error {
			data, err := io.ReadAll(in)
			got = append(got, file{path, string(data)})
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(printed)
	want := append(slices.Clone(lines[:3]), lines[3][:job.MaxLine], lines[3][job.MaxLine:])
	if !slices.Equal(printed, want) {
		t.Errorf("exported %d lines that differ from the %d printed", len(printed), len(want))
	}
	if !slices.Equal(got, files) { // too much for a diff
		t.Errorf("exported %d files that differ from the %d added", len(got), len(files))
	}
	wantExec := wire.Exec{
		Job:  wire.ScriptJob{Name: "hello", Platform: "debian-12", Script: wire.Blob{Data: []byte(files[2].data)}},
		UUID: b.UUID, Started: b.Started.Truncate(time.Millisecond), Finished: b.Finished.Truncate(time.Millisecond),
		Result: job.Result{Kind: job.Exited, Code: 137},
	}
	if diff := cmp.Diff(wantExec, e); diff != "" {
		t.Errorf("exported result (-want +got):\n%s", diff)
	}
}

func TestContents(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	unknown := job.ContentOf([]byte("unknown"))
	if s.HasContent(unknown) {
		t.Error("has a content that was never put")
	}
	if _, err := s.OpenContent(unknown); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), unknown.String()) {
		t.Errorf("a missing content: %v", err)
	}
	c, err := s.Put(strings.NewReader("known"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "v1/content", c.String()[:2], c.String())
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(strings.NewReader("known")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(name); err != nil || !os.SameFile(before, after) {
		t.Errorf("a content that was there was written again: %v", err)
	}
	if err := os.WriteFile(name, []byte("cut"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.HasContent(c) {
		t.Error("has a content of another size")
	}
	if _, err := s.OpenContent(c); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), c.String()) {
		t.Errorf("a content of another size: %v", err)
	}
	if _, err := s.Put(strings.NewReader("known")); err != nil {
		t.Fatal(err)
	}
	if got, err := read(s.OpenContent(c)); got != "known" || err != nil {
		t.Errorf("a content that was put again after damage: %q, %v", got, err)
	}
	broken := errors.New("broken")
	for _, size := range []int{0, 10, 1 << 18} {
		r := io.MultiReader(bytes.NewReader(make([]byte, size)), failing{broken})
		if _, err := s.Put(r); !errors.Is(err, broken) {
			t.Errorf("a reader that fails after %d octets: %v", size, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "v1/tmp")); len(left) > 0 || err != nil {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAdd(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	d, err := s.Begin("hello", number(1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abandon()
	in := strings.NewReader("goodABSOLUTEdottwicerest")
	for _, f := range []file{{"a", "good"}, {"/etc/passwd", "ABSOLUTE"}, {"../b", "dot"}, {"a", "twice"}} {
		if err := d.Add(f.path, 0o4755, in, int64(len(f.data))); err != nil {
			t.Errorf("adding %s: %v", f.path, err)
		}
	}
	if rest, err := io.ReadAll(in); string(rest) != "rest" || err != nil {
		t.Errorf("left to read: %q, %v", rest, err)
	}
	for _, path := range []string{"short", "/short"} {
		if err := d.Add(path, 0, strings.NewReader("abc"), 4); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("an artifact that ends early, at %s: %v", path, err)
		}
	}
	if err := d.Add("short", 0o600, strings.NewReader("abcd"), 4); err != nil {
		t.Errorf("adding after an error: %v", err)
	}
	if err := d.AddStored("stored", 0o600, job.ContentOf([]byte("good"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("adding a content that is not there: %v", err)
	}
	c, err := s.Put(strings.NewReader("there"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AddStored("stored", 0o600, c); err != nil {
		t.Error(err)
	}
	d.Note("a %s", "fifo")
	got, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	want := buildOf("hello", 1)
	want.Artifacts = []job.Artifact{
		{Path: "a", Mode: 0o755, Content: job.ContentOf([]byte("good"))},
		{Path: "short", Mode: 0o600, Content: job.ContentOf([]byte("abcd"))},
		{Path: "stored", Mode: 0o600, Content: c},
	}
	want.Notes = []string{
		`not kept: artifact path "/etc/passwd" is absolute`,
		`not kept: artifact path "../b" is not clean: use no empty, "." or ".." element`,
		`not kept: a second artifact with the path "a"`,
		`not kept: artifact path "/short" is absolute`,
		`a fifo`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "v1/tmp")); len(left) > 0 || err != nil {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

func TestNotesAreBounded(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	d, err := s.Begin("hello", number(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 1500 {
		d.Note("x")
	}
	got, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Notes); n != 1001 || got.Notes[1000] != "500 more notes are left out" {
		t.Errorf("%d notes, the last %q", n, got.Notes[n-1])
	}
}

func TestDraftEnds(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	d, err := s.Begin("hello", number(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin("hello", number(1)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("beginning twice: %v", err)
	}
	if _, err := d.Commit(buildOf("other", 1)); err == nil {
		t.Error("committed a build of another job")
	}
	far := buildOf("hello", 1)
	far.Finished = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := d.Commit(far); err == nil {
		t.Error("committed a time that does not fit")
	}
	if err := fill(d, []string{"one", "two"}, []file{{"a", "lost"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Abandon(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Recorded("hello", number(1)); ok || err != nil {
		t.Errorf("an abandoned build is recorded: %v", err)
	}
	if _, err := s.Build(number(1)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an abandoned build is found: %v", err)
	}

	d, err = s.Resume("hello", number(1))
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Console().Lines(); n != 2 {
		t.Errorf("resumed with %d lines, want 2", n)
	}
	if err := fill(d, []string{"three"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(buildOf("hello", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(buildOf("hello", 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("committed twice: %v", err)
	}
	if err := d.Abandon(); err != nil {
		t.Errorf("abandoning after a commit: %v", err)
	}
	lines, err := linesOf(s, number(1), 0)
	if diff := cmp.Diff([]string{"one", "two", "three"}, text(lines)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	d, err = s.Resume("never begun", number(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(buildOf("never begun", 2)); err != nil {
		t.Error(err)
	}
}

func TestConcurrentDrafts(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	const drafts = 30
	errs := make(chan error, drafts)
	for n := range drafts {
		go func() {
			same, own := strings.Repeat("same", 50000), fmt.Sprint(n)
			_, err := commit(s, buildOf(fmt.Sprintf("job%d", n%3), n), []string{own}, []file{{"same", same}, {"own", own}})
			errs <- err
		}()
	}
	for range drafts {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s = reopen(t, s, dir)
	builds, err := s.List("", 0)
	if err != nil || len(builds) != drafts {
		t.Fatalf("%d builds, %v", len(builds), err)
	}
	for i, b := range builds {
		if want := number(drafts - 1 - i); b.UUID != want {
			t.Errorf("build %d of the list is %v, want %v", i, b.UUID, want)
		}
		in, _, err := s.OpenArtifact(b.UUID, "own")
		if own, err := read(in, err); own != fmt.Sprint(b.Run) || err != nil {
			t.Errorf("build %d: %q, %v", b.Run, own, err)
		}
	}
}
