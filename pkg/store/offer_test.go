package store_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
)

var errBroken = errors.New("broken")

// offered is what a worker would offer of these files.
func offered(files ...file) []job.Artifact {
	var artifacts []job.Artifact
	for _, f := range files {
		artifacts = append(artifacts, job.Artifact{Path: f.path, Mode: 0o755, Content: job.ContentOf([]byte(f.data))})
	}
	return artifacts
}

func begin(t testing.TB, s *store.Store, n int) *store.Draft {
	t.Helper()
	d, err := s.Begin("hello", number(n))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func offer(t testing.TB, d *store.Draft, artifacts []job.Artifact) {
	t.Helper()
	if err := d.Offer(artifacts); err != nil {
		t.Fatal(err)
	}
}

// lacks checks what a draft lacks.
func lacks(t *testing.T, d *store.Draft, want ...store.Wanted) {
	t.Helper()
	if diff := cmp.Diff(want, d.Lacking()); diff != "" {
		t.Errorf("lacking (-want +got):\n%s", diff)
	}
}

func wanted(data string, offset int) store.Wanted {
	return store.Wanted{Content: job.ContentOf([]byte(data)), Offset: int64(offset)}
}

// deliver gives data[from:to] as the rest of data, and then fails unless that is all.
func deliver(d *store.Draft, data string, from, to int) error {
	var r io.Reader = strings.NewReader(data[from:to])
	if to < len(data) {
		r = io.MultiReader(r, failing{errBroken})
	}
	return d.Deliver(job.ContentOf([]byte(data)), int64(from), r)
}

func mustDeliver(t testing.TB, d *store.Draft, data string) {
	t.Helper()
	if err := deliver(d, data, 0, len(data)); err != nil {
		t.Fatal(err)
	}
}

// isEmpty checks that nothing is left of what came.
func isEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(filepath.Join(dir, "v1/tmp")); len(left) > 0 || err != nil {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

func TestOffer(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	if _, err := s.Put(strings.NewReader("there")); err != nil {
		t.Fatal(err)
	}
	d := begin(t, s, 1)
	offer(t, d, append(offered(
		file{"a", "one"}, file{"/etc/passwd", "ABSOLUTE"}, file{"b", "there"}, file{"a", "twice"},
		file{"c", "one"}, file{"d", "two"}, file{"empty", ""}, file{"gone", "gone"},
	), job.Artifact{Path: "nothing"}, job.Artifact{Path: "negative", Content: job.Content{Size: -1}}))
	lacks(t, d, wanted("one", 0), wanted("two", 0), wanted("", 0), wanted("gone", 0))
	if _, err := d.Commit(buildOf("hello", 1)); err == nil || !strings.Contains(err.Error(), "4 of the contents") {
		t.Errorf("committed what lacks: %v", err)
	}
	for _, data := range []string{"one", "two", ""} {
		mustDeliver(t, d, data)
	}
	d.Drop(job.ContentOf([]byte("gone")), "it is gone")
	d.Drop(job.ContentOf([]byte("one")), "it is here, though")
	d.Drop(job.ContentOf([]byte("never")), "never offered")
	lacks(t, d)
	d.Note("a note")

	got, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	want := buildOf("hello", 1)
	want.Artifacts = offered(file{"a", "one"}, file{"b", "there"}, file{"c", "one"}, file{"d", "two"}, file{"empty", ""})
	want.Notes = []string{
		`a note`,
		`not kept: artifact path "/etc/passwd" is absolute`,
		`not kept: a second artifact with the path "a"`,
		`not kept: artifact "nothing" was offered without a hash`,
		`not kept: artifact "negative" was offered without a hash`,
		`not kept: artifact "gone": it is gone`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, a := range want.Artifacts {
		if data, err := read(s.OpenContent(a.Content)); job.ContentOf([]byte(data)) != a.Content || err != nil {
			t.Errorf("artifact %s holds %q, %v", a.Path, data, err)
		}
	}
	isEmpty(t, dir)
}

// TestOfferAgain: a second offer takes the place of the first, and what has come
// counts for it.
func TestOfferAgain(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	d := begin(t, s, 1)
	offer(t, d, offered(file{"../x", "x"}, file{"a", "here"}, file{"b", "partly"}, file{"c", "withdrawn"}, file{"d", "here, withdrawn"}))
	mustDeliver(t, d, "here")
	mustDeliver(t, d, "here, withdrawn")
	for _, data := range []string{"withdrawn", "partly"} {
		if err := deliver(d, data, 0, 3); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	again := offered(file{"../x", "x"}, file{"b", "partly"}, file{"a", "here"})
	offer(t, d, again)
	lacks(t, d, wanted("partly", 3))
	if left, err := os.ReadDir(filepath.Join(dir, "v1/tmp")); len(left) != 2 || err != nil {
		t.Errorf("in tmp: %v, %v", left, err)
	}
	if err := deliver(d, "partly", 3, 6); err != nil {
		t.Fatal(err)
	}
	got, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	want := buildOf("hello", 1)
	want.Artifacts = again[1:]
	want.Notes = []string{`not kept: artifact path "../x" is not clean: use no empty, "." or ".." element`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	isEmpty(t, dir)
}

// TestOfferAfterAdd: the two ways do not give one path to two artifacts.
func TestOfferAfterAdd(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	d := begin(t, s, 1)
	if err := fill(d, nil, []file{{"a", "added"}}); err != nil {
		t.Fatal(err)
	}
	offer(t, d, offered(file{"a", "offered"}, file{"b", "offered"}))
	mustDeliver(t, d, "offered")
	got, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(offered(file{"a", "added"}, file{"b", "offered"}), got.Artifacts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTooManyOffered(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	if _, err := s.Put(strings.NewReader("same")); err != nil {
		t.Fatal(err)
	}
	d := begin(t, s, 1)
	var artifacts []job.Artifact
	for n := range 102_000 {
		artifacts = append(artifacts, job.Artifact{Path: fmt.Sprint(n), Content: job.ContentOf([]byte("same"))})
	}
	offer(t, d, artifacts)
	offer(t, d, artifacts) // the notes are not there twice
	got, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Notes); len(got.Artifacts) != 100_000 || n != 1001 || got.Notes[1000] != "1000 more notes are left out" {
		t.Errorf("%d artifacts, %d notes, the last %q", len(got.Artifacts), n, got.Notes[n-1])
	}
}

// TestSameContent: two builds receive one content at once, and both have it.
func TestSameContent(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	same := random(3 << 20)
	const drafts = 4
	errs := make(chan error, drafts)
	var all []*store.Draft
	for n := range drafts {
		d := begin(t, s, n)
		offer(t, d, offered(file{"a", same}, file{"b", "small"}))
		all = append(all, d)
	}
	for n, d := range all {
		go func() {
			err := errors.Join(deliver(d, same, 0, len(same)), deliver(d, "small", 0, 5))
			if err == nil {
				_, err = d.Commit(buildOf("hello", n))
			}
			errs <- err
		}()
	}
	for range drafts {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for n := range drafts {
		k := kept{build: buildOf("hello", n), files: []file{{"a", same}, {"b", "small"}}}
		if err := k.check(s); err != nil {
			t.Error(err)
		}
	}
	isEmpty(t, dir)
	d := begin(t, s, drafts)
	offer(t, d, offered(file{"a", same}))
	lacks(t, d)
}
