package store_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/retention"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
)

const elsewhere = "https://store.example.org/a"

// another is a store elsewhere, of octets by their hash.
type another map[job.Content]string

func (a another) Follows(location string) bool { return location == elsewhere }

func (a another) Has(_ context.Context, _ string, c job.Content) (bool, error) {
	text, ok := a[c]
	return ok && int64(len(text)) == c.Size, nil
}

func (a another) Open(_ context.Context, _ string, c job.Content, offset int64) (io.ReadCloser, error) {
	text, ok := a[c]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(text[offset:])), nil
}

// TestElsewhere: what lies in a store that is followed is not wanted, and is read
// there, held to its hash; another location counts for nothing.
func TestElsewhere(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	there := another{job.ContentOf([]byte("there")): "there"}
	s.Follow(there)
	artifacts := offered(file{"a", "there"}, file{"b", "here"}, file{"c", "unknown"})
	artifacts[0].Location, artifacts[2].Location = elsewhere, elsewhere+"/other"

	d := begin(t, s, 1)
	offer(t, d, offered(file{"a", "there"}, file{"b", "here"}, file{"c", "unknown"}))
	lacks(t, d, wanted("there", 0), wanted("here", 0), wanted("unknown", 0))
	offer(t, d, artifacts)
	lacks(t, d, wanted("here", 0), wanted("unknown", 0))
	mustDeliver(t, d, "here")
	mustDeliver(t, d, "unknown")
	b, err := d.Commit(buildOf("hello", 1))
	if err != nil {
		t.Fatal(err)
	}
	artifacts[2].Location = ""
	if diff := cmp.Diff(artifacts, b.Artifacts); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, disk.OS{}, dir)
	if _, _, err := s.Export(b.UUID); err == nil || !strings.Contains(err.Error(), elsewhere) {
		t.Errorf("exported what is not followed: %v", err)
	}
	s.Follow(there)
	for _, want := range []string{"there", "here", "unknown"} {
		for _, a := range b.Artifacts {
			if a.Content != job.ContentOf([]byte(want)) {
				continue
			}
			in, size, err := s.OpenArtifact(b.UUID, a.Path)
			if got, err := read(in, err); got != want || size != a.Size || err != nil {
				t.Errorf("%s is %q, %v", a.Path, got, err)
			}
			if err := s.CheckArtifact(t.Context(), a); err != nil {
				t.Error(err)
			}
		}
	}
	if s.HasContent(b.Artifacts[0].Content) {
		t.Error("what is elsewhere is here as well")
	}
	for name, text := range map[string]string{"other octets": "THERE", "cut": "the"} {
		there[b.Artifacts[0].Content] = text
		if err := s.CheckArtifact(t.Context(), b.Artifacts[0]); name == "other octets" && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: checked: %v", name, err)
		}
		if _, write, err := s.Export(b.UUID); err == nil && write(io.Discard) == nil {
			t.Errorf("%s: exported", name)
		}
	}
	verifyElsewhere(t, dir, there, b)
	delete(there, b.Artifacts[0].Content)
	if _, _, err := s.Export(b.UUID); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("gone: exported: %v", err)
	}
	if err := s.CheckArtifact(t.Context(), b.Artifacts[0]); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("gone: checked: %v", err)
	}
}

// verifyElsewhere verifies when an artifact of the build that lies elsewhere is
// damaged, and when nobody can look there: then all else is checked.
func verifyElsewhere(t *testing.T, dir string, there another, b job.Build) {
	t.Helper()
	c := b.Artifacts[0].Content
	there[c] = "THERE"
	want := []store.Damage{{
		Part: store.PartArtifact, Job: b.Job, UUID: b.UUID, Path: "a", Content: c, File: elsewhere + "/" + c.String()[:2] + "/" + c.String(),
		Offset: -1, Reason: "its octets were changed",
	}}
	if _, found := verify(t, disk.OS{}, dir, store.VerifyOptions{Elsewhere: there}); cmp.Diff(want, found) != "" {
		t.Errorf("damaged elsewhere (-want +got):\n%s", cmp.Diff(want, found))
	}
	if err := flip(1)(filepath.Join(dir, contentName("here"))); err != nil {
		t.Fatal(err)
	}
	var found []store.Damage
	verified, err := store.Verify(t.Context(), disk.OS{}, dir, store.VerifyOptions{Report: func(d store.Damage) { found = append(found, d) }})
	var unread *store.UnreadError
	if !errors.As(err, &unread) || !strings.Contains(err.Error(), elsewhere) || verified.Contents != 2 || len(found) != 1 || found[0].Path != "b" {
		t.Errorf("a store that is not followed: %+v, %v, %v", verified, found, err)
	}
	if err := flip(1)(filepath.Join(dir, contentName("here"))); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyPrunedElsewhere: what was pruned is not looked for elsewhere, where nobody
// needs to keep it; its script is.
func TestVerifyPrunedElsewhere(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	there := another{job.ContentOf([]byte("there")): "there"}
	s.Follow(there)
	artifacts := offered(file{"a", "there"})
	artifacts[0].Location = elsewhere
	d := begin(t, s, 1)
	offer(t, d, artifacts)
	b := buildOf("hello", 1)
	b.Script = job.ContentOf([]byte(script))
	if _, err := s.Put(strings.NewReader(script)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(b); err != nil {
		t.Fatal(err)
	}
	_, err := s.Prune(t.Context(), false, func(builds []retention.Build) (store.Decision, error) {
		return store.Decision{Verdicts: []retention.Verdict{{Build: builds[0], Fate: retention.Strip}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]store.Elsewhere{"gone there": another{}, "not followed": nil} {
		if _, found := verify(t, disk.OS{}, dir, store.VerifyOptions{Elsewhere: e}); len(found) > 0 {
			t.Errorf("%s: damaged: %v", name, found)
		}
	}
	if err := os.Remove(filepath.Join(dir, contentName(script))); err != nil {
		t.Fatal(err)
	}
	_, found := verify(t, disk.OS{}, dir, store.VerifyOptions{})
	if len(found) != 1 || found[0].Part != store.PartScript {
		t.Errorf("without its script: damaged: %v", found)
	}
}

// TestPruneElsewhere: a content that only builds name that have it elsewhere goes.
func TestPruneElsewhere(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	both := job.ContentOf([]byte("here and there"))
	s.Follow(another{both: "here and there"})
	mustCommit(t, s, buildOf("alpha", 1), nil, []file{{"a", "here and there"}})
	artifacts := offered(file{"a", "here and there"})
	artifacts[0].Location = elsewhere
	d := begin(t, s, 2)
	offer(t, d, artifacts)
	if _, err := d.Commit(buildOf("hello", 2)); err != nil {
		t.Fatal(err)
	}
	did, err := s.Prune(t.Context(), false, func(builds []retention.Build) (store.Decision, error) {
		var verdicts []retention.Verdict
		for _, b := range builds {
			if b.Job == "alpha" {
				verdicts = append(verdicts, retention.Verdict{Build: b, Fate: retention.Strip})
			}
		}
		return store.Decision{Verdicts: verdicts}, nil
	})
	if err != nil || did.Freed != both.Size || s.HasContent(both) {
		t.Errorf("pruned %+v, %v; it is still here: %v", did, err, s.HasContent(both))
	}
	if in, _, err := s.OpenArtifact(number(2), "a"); err != nil {
		t.Error(err)
	} else if got, err := read(in, nil); got != "here and there" || err != nil {
		t.Errorf("elsewhere it is %q, %v", got, err)
	}
}
