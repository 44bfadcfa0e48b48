package store_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
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

func (a another) Open(_ context.Context, _ string, c job.Content) (io.ReadCloser, error) {
	text, ok := a[c]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(text)), nil
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
	delete(there, b.Artifacts[0].Content)
	if _, _, err := s.Export(b.UUID); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("gone: exported: %v", err)
	}
	if err := s.CheckArtifact(t.Context(), b.Artifacts[0]); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("gone: checked: %v", err)
	}
}
