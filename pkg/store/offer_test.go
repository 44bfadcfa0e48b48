package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
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

// TestDeliverRefused: what is not to be taken touches nothing, and is not read.
func TestDeliverRefused(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	d := begin(t, s, 1)
	offer(t, d, offered(file{"a", "here"}, file{"b", "partly"}, file{"c", "dropped"}))
	mustDeliver(t, d, "here")
	if err := deliver(d, "partly", 0, 3); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	d.Drop(job.ContentOf([]byte("dropped")), "for a test")
	long := job.ContentOf([]byte("partly"))
	long.Size++
	tests := map[string]struct {
		content job.Content
		offset  int64
		want    string
	}{
		"not offered":    {job.ContentOf([]byte("never")), 0, "not offered"},
		"another size":   {long, 3, "not offered"},
		"here already":   {job.ContentOf([]byte("here")), 0, "not wanted"},
		"dropped":        {job.ContentOf([]byte("dropped")), 0, "not wanted"},
		"from the start": {job.ContentOf([]byte("partly")), 0, "expected 3"},
		"a gap":          {job.ContentOf([]byte("partly")), 4, "expected 3"},
		"negative":       {job.ContentOf([]byte("partly")), -1, "expected 3"},
		"behind the end": {job.ContentOf([]byte("partly")), 7, "expected 3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := d.Deliver(test.content, test.offset, iotest.ErrReader(errBroken))
			if err == nil || errors.Is(err, errBroken) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			lacks(t, d, wanted("partly", 3))
		})
	}
	if err := deliver(d, "partly", 3, 6); err != nil {
		t.Error(err)
	}
	if _, err := d.Commit(buildOf("hello", 1)); err != nil {
		t.Error(err)
	}
	if err := deliver(d, "partly", 3, 6); !errors.Is(err, os.ErrClosed) {
		t.Errorf("delivered to what has ended: %v", err)
	}
}

// TestDeliverLength: more octets than the content has are not kept, fewer are.
func TestDeliverLength(t *testing.T) {
	for _, size := range []int{0, 10, 3 << 20} {
		for _, from := range []int{0, size / 2} {
			t.Run(fmt.Sprintf("%d from %d", size, from), func(t *testing.T) {
				s := open(t, disk.OS{}, scratch(t))
				d := begin(t, s, 1)
				data := random(size)
				offer(t, d, offered(file{"a", data}))
				if from > 0 {
					if err := deliver(d, data, 0, from); !errors.Is(err, errBroken) {
						t.Fatal(err)
					}
				}
				c := job.ContentOf([]byte(data))
				if err := d.Deliver(c, int64(from), strings.NewReader(data[from:]+"x")); err == nil || !strings.Contains(err.Error(), "more than") {
					t.Errorf("too many octets: %v", err)
				}
				lacks(t, d, wanted(data, from))
				if size > 0 {
					err := d.Deliver(c, int64(from), strings.NewReader(data[from:size-1]))
					if !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("too few octets: %v", err)
					}
					from = size - 1
					lacks(t, d, wanted(data, from))
				}
				if err := deliver(d, data, from, size); err != nil {
					t.Error(err)
				}
				lacks(t, d)
			})
		}
	}
}

// random is size octets that do not repeat.
func random(size int) string {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	return string(data)
}

func TestMismatch(t *testing.T) {
	const large = 2 << 20
	for _, size := range []int{10, large} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			d := begin(t, s, 1)
			good, once := random(size), random(size+1)
			offer(t, d, offered(file{"a", good}, file{"once", once}, file{"b", good}))
			bad := func(data string, from int) error {
				other := []byte(data)
				other[size-1]++
				return d.Deliver(job.ContentOf([]byte(data)), int64(from), bytes.NewReader(other[from:]))
			}
			if err := bad(once, 0); !errors.Is(err, store.ErrMismatch) {
				t.Errorf("other octets: %v", err)
			}
			lacks(t, d, wanted(good, 0), wanted(once, 0))
			isEmpty(t, dir)
			mustDeliver(t, d, once)
			for i := range 2 {
				lacks(t, d, wanted(good, 0))
				// The second one comes in two pieces.
				if err := deliver(d, good, 0, i*size/2); i > 0 && !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
				if err := bad(good, i*size/2); !errors.Is(err, store.ErrMismatch) {
					t.Errorf("other octets again: %v", err)
				}
			}
			lacks(t, d)
			got, err := d.Commit(buildOf("hello", 1))
			if err != nil {
				t.Fatal(err)
			}
			want := buildOf("hello", 1)
			want.Artifacts = offered(file{"once", once})
			want.Notes = []string{
				`not kept: artifact "a": its content did not match its hash 2 times`,
				`not kept: artifact "b": its content did not match its hash 2 times`,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			isEmpty(t, dir)
		})
	}
}

// pausing gives its octets when it is told to.
type pausing struct {
	io.Reader
	reached, goOn chan struct{}
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.reached != nil {
		close(p.reached)
		p.reached = nil
		<-p.goOn
	}
	return p.Reader.Read(b)
}

// TestDuringDelivery: what is asked meanwhile neither waits nor does harm.
func TestDuringDelivery(t *testing.T) {
	tests := map[string]struct {
		meanwhile func(*store.Draft)
		lacks     []store.Wanted
	}{
		"the same offer": {func(d *store.Draft) { offer(t, d, offered(file{"a", "one"}, file{"b", "two"})) }, []store.Wanted{wanted("two", 0)}},
		"another offer":  {func(d *store.Draft) { offer(t, d, offered(file{"b", "two"})) }, []store.Wanted{wanted("two", 0)}},
		"it is dropped":  {func(d *store.Draft) { d.Drop(job.ContentOf([]byte("one")), "for a test") }, []store.Wanted{wanted("two", 0)}},
		"withdrawn and offered again": {func(d *store.Draft) {
			offer(t, d, offered(file{"b", "two"}))
			offer(t, d, offered(file{"a", "one"}))
		}, nil},
		"a second delivery": {func(d *store.Draft) {
			if err := deliver(d, "two", 0, 3); err == nil || !strings.Contains(err.Error(), "under way") {
				t.Error(err)
			}
		}, []store.Wanted{wanted("two", 0)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			d := begin(t, s, 1)
			offer(t, d, offered(file{"a", "one"}, file{"b", "two"}))
			in := &pausing{strings.NewReader("one"), make(chan struct{}), make(chan struct{})}
			reached, delivered := in.reached, make(chan error)
			go func() { delivered <- d.Deliver(job.ContentOf([]byte("one")), 0, in) }()
			<-reached
			test.meanwhile(d)
			close(in.goOn)
			if err := <-delivered; err != nil {
				t.Error(err)
			}
			lacks(t, d, test.lacks...)
			for _, w := range test.lacks {
				d.Drop(w.Content, "not needed")
			}
			b, err := d.Commit(buildOf("hello", 1))
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range b.Artifacts {
				if _, err := read(s.OpenContent(a.Content)); err != nil {
					t.Error(err)
				}
			}
			isEmpty(t, dir)
		})
	}
}

// TestResumedOffer: what came before a restart is there for the same offer, and
// what was damaged meanwhile comes again, without blame.
func TestResumedOffer(t *testing.T) {
	whole, part, bad, long := random(3<<20), random(3<<20+1), random(300), random(200)
	files := []file{{"whole", whole}, {"part", part}, {"bad", bad}, {"long", long}, {"new", "new"}}
	for name, end := range map[string]func(*store.Draft) error{
		"killed":    func(*store.Draft) error { return nil },
		"suspended": (*store.Draft).Suspend,
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			id := number(1)
			d := begin(t, s, 1)
			if err := fill(d, []string{"one", "two"}, nil); err != nil {
				t.Fatal(err)
			}
			if err := d.Console().Flush(); err != nil {
				t.Fatal(err)
			}
			offer(t, d, offered(files...))
			mustDeliver(t, d, whole)
			for data, to := range map[string]int{part: 2<<20 + 7, bad: 100, long: 100} {
				if err := deliver(d, data, 0, to); !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
			}
			if err := end(d); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			spoil := func(data, with string) {
				c := job.ContentOf([]byte(data))
				if err := os.WriteFile(filepath.Join(dir, "v1/tmp", fmt.Sprintf("%v-%v-%d", id, c, c.Size)), []byte(with), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			spoil(bad, strings.Repeat("x", 100))
			spoil(long, long+"x")

			s, err := store.Open(disk.OS{}, dir, func(of uuid.UUID) bool { return of == id }, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Recorded("hello", id); ok || err != nil {
				t.Fatalf("it is recorded: %v", err)
			}
			d, err = s.Resume("hello", id)
			if err != nil {
				t.Fatal(err)
			}
			if n := d.Console().Lines(); n != 2 {
				t.Errorf("resumed at line %d, want 2", n)
			}
			if err := d.Console().Append(console.Line{Data: []byte("three")}); err != nil {
				t.Fatal(err)
			}
			offer(t, d, offered(files...))
			lacks(t, d, wanted(whole, len(whole)), wanted(part, 2<<20+7), wanted(bad, 100), wanted(long, 0), wanted("new", 0))
			for _, w := range d.Lacking() {
				for _, f := range files {
					if w.Content != job.ContentOf([]byte(f.data)) {
						continue
					}
					if err := deliver(d, f.data, int(w.Offset), len(f.data)); err != nil && (f.path != "bad" || !errors.Is(err, store.ErrMismatch)) {
						t.Errorf("%s: %v", f.path, err)
					}
				}
			}
			// The first mismatch was not the worker's.
			if err := d.Deliver(job.ContentOf([]byte(bad)), 0, strings.NewReader(long+long[:100])); !errors.Is(err, store.ErrMismatch) {
				t.Error(err)
			}
			lacks(t, d, wanted(bad, 0))
			mustDeliver(t, d, bad)
			if _, err := d.Commit(buildOf("hello", 1)); err != nil {
				t.Fatal(err)
			}
			k := kept{build: buildOf("hello", 1), lines: []string{"one", "two", "three"}, files: files}
			if err := k.check(s); err != nil {
				t.Error(err)
			}
			isEmpty(t, dir)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestOfferIsSwept: what came for a build goes with it, however it ends.
func TestOfferIsSwept(t *testing.T) {
	for name, end := range map[string]func(d *store.Draft) error{
		"abandoned":                             (*store.Draft).Abandon,
		"discarded":                             (*store.Draft).Discard,
		"ended by a server that heard no offer": func(d *store.Draft) error { return nil },
		"not running at the next start":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			d := begin(t, s, 1)
			offer(t, d, offered(file{"a", "whole"}, file{"b", "partly"}))
			mustDeliver(t, d, "whole")
			if err := deliver(d, "partly", 0, 3); !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			running := end != nil
			if running {
				if err := end(d); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(disk.OS{}, dir, func(uuid.UUID) bool { return running }, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if running {
				d, err := s.Resume("hello", number(1))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Commit(buildOf("hello", 1)); err != nil {
					t.Fatal(err)
				}
			}
			isEmpty(t, dir)
		})
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
