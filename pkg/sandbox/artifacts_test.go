package sandbox_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
)

// file is an artifact with its content.
type file struct {
	Path    string
	Content string
	Mode    fs.FileMode
}

// collect runs a script and reads everything that it left.
func collect(t *testing.T, place sandbox.Place, check func(string) error) ([]file, []sandbox.Note) {
	t.Helper()
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	artifacts, notes, err := place.Artifacts(check)
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	for _, artifact := range artifacts {
		f, err := artifact.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if int64(len(content)) != artifact.Size {
			t.Errorf("%s: size %d, %d octets read", artifact.Path, artifact.Size, len(content))
		}
		files = append(files, file{artifact.Path, string(content), artifact.Mode})
	}
	return files, notes
}

// TestArtifactsOfNothing asks twice: nothing is no error, and stays nothing.
func TestArtifactsOfNothing(t *testing.T) {
	place := prepare(t, newPlain(t), sandbox.Spec{Script: []byte("exit 0")})
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		artifacts, notes, err := place.Artifacts(nil)
		if err != nil || len(artifacts) > 0 || len(notes) > 0 {
			t.Errorf("artifacts %v, notes %v, error %v", artifacts, notes, err)
		}
	}
}

// TestArtifacts is what only the build of a plain process can do.
func TestArtifacts(t *testing.T) {
	long := strings.Repeat("d", 200)
	tests := []struct {
		name, script string
		files        []file
		notes        []sandbox.Note
	}{
		{
			"path too long",
			fmt.Sprintf("D=%s; for i in 1 2 3 4 5; do mkdir $D; cd $D; done; echo a >long; echo b >$D", long),
			[]file{{strings.Repeat(long+"/", 5) + "long", "a\n", 0o644}},
			[]sandbox.Note{{strings.Repeat(long+"/", 5) + long, "path of 1205 octets: 1023 are allowed"}},
		},
		{"output directory removed", "rm -r ../out", nil, []sandbox.Note{{".", "unreadable output directory: no such file or directory"}}},
		{"output directory replaced by a link", "rm -r ../out; ln -s /etc ../out", nil, []sandbox.Note{{".", "unreadable output directory: it was replaced"}}},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files, notes := collect(t, prepare(t, p, sandbox.Spec{Script: []byte(test.script)}), nil)
			if diff := cmp.Diff(test.files, files); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.notes, notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestArtifactsRefusedByCheck(t *testing.T) {
	place := prepare(t, newPlain(t), sandbox.Spec{Script: []byte("echo a >a; mkdir d; echo b >d/b")})
	files, notes := collect(t, place, func(path string) error {
		if path == "d/b" {
			return errors.New("not allowed")
		}
		return nil
	})
	if diff := cmp.Diff([]file{{"a", "a\n", 0o644}}, files); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]sandbox.Note{{"d/b", "not allowed"}}, notes); diff != "" {
		t.Error(diff)
	}
}

func TestArtifactsUnreadable(t *testing.T) {
	script := "echo a >a; : >f; chmod 0 f; mkdir d; : >d/x; chmod 0 d"
	place := prepare(t, newPlain(t), sandbox.Spec{Script: []byte(script)})
	dropOverride(t)
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	artifacts, notes, err := place.Artifacts(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sandbox.Note{{"d", "unreadable directory: permission denied"}}, notes); diff != "" {
		t.Error(diff)
	}
	opened := map[string]string{}
	for _, artifact := range artifacts {
		f, err := artifact.Open()
		if err != nil {
			opened[artifact.Path] = err.Error()
			continue
		}
		opened[artifact.Path] = "opened"
		f.Close()
	}
	if diff := cmp.Diff(map[string]string{"a": "opened", "f": "opening artifact: permission denied"}, opened); diff != "" {
		t.Error(diff)
	}
}

// TestArtifactsOpenedAtOnce opens artifacts of several directories in turns.
func TestArtifactsOpenedAtOnce(t *testing.T) {
	script := "for d in . a a/b c; do mkdir -p $d; for f in 1 2 3; do echo $d/$f >$d/$f; done; done"
	place := prepare(t, newPlain(t), sandbox.Spec{Script: []byte(script)})
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	artifacts, _, err := place.Artifacts(nil)
	if err != nil || len(artifacts) != 12 {
		t.Fatalf("%d artifacts, error %v", len(artifacts), err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for _, i := range rand.Perm(len(artifacts)) {
				f, err := artifacts[i].Open()
				if err != nil {
					t.Error(err)
					continue
				}
				content, err := io.ReadAll(f)
				f.Close()
				if got := path.Clean(strings.TrimSpace(string(content))); err != nil || got != artifacts[i].Path {
					t.Errorf("%s: read %q, error %v", artifacts[i].Path, got, err)
				}
			}
		})
	}
	group.Wait()
}

// TestArtifactSwapped replaces a listed file before it is opened.
func TestArtifactSwapped(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(name string) error{
		"by a link out":  func(name string) error { return os.Symlink(other, name) },
		"by a link":      func(name string) error { return os.Symlink("b", name) },
		"by a file":      func(name string) error { return os.Link(filepath.Join(filepath.Dir(name), "b"), name) },
		"by a directory": func(name string) error { return os.Mkdir(name, 0o755) },
		"by nothing":     func(string) error { return nil },
	}
	p := newPlain(t)
	for name, swap := range tests {
		t.Run(name, func(t *testing.T) {
			place := prepare(t, p, sandbox.Spec{Script: []byte("pwd; : >a; : >b")})
			_, console, err := runIn(t.Context(), place)
			if err != nil {
				t.Fatal(err)
			}
			artifacts, _, err := place.Artifacts(nil)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(strings.TrimSuffix(console, "\n"), "a")
			if err := errors.Join(os.Remove(path), swap(path)); err != nil {
				t.Fatal(err)
			}
			if f, err := artifacts[0].Open(); err == nil {
				f.Close()
				t.Error("it was opened")
			}
		})
	}
}
