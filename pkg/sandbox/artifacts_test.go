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

func TestArtifacts(t *testing.T) {
	long := strings.Repeat("d", 200)
	tests := []struct {
		name, script string
		files        []file
		notes        []sandbox.Note
	}{
		{"nothing", "", nil, nil},
		{"files", "echo a >a; mkdir -p d/e; echo b >d/e/b", []file{{"a", "a\n", 0o644}, {"d/e/b", "b\n", 0o644}}, nil},
		{"collected after a failure", "echo a >a; exit 1", []file{{"a", "a\n", 0o644}}, nil},
		{"collected after a signal", "echo a >a; kill -KILL $$", []file{{"a", "a\n", 0o644}}, nil},
		{"dotfiles", "echo a >.a; mkdir .d; echo b >.d/b", []file{{".a", "a\n", 0o644}, {".d/b", "b\n", 0o644}}, nil},
		{"empty directories are nothing", "mkdir -p a/b", nil, nil},
		{"empty file", ": >a", []file{{"a", "", 0o644}}, nil},
		{"modes", ": >a; chmod 7751 a; : >b; chmod 400 b", []file{{"a", "", 0o751}, {"b", "", 0o400}}, nil},
		{"hard links are files", "echo a >a; ln a b", []file{{"a", "a\n", 0o644}, {"b", "a\n", 0o644}}, nil},
		{
			"any octets in names", `: >"$(printf 'a\377\nb')"; : >'\'; : >' '; : >-rf`,
			[]file{{" ", "", 0o644}, {"-rf", "", 0o644}, {`\`, "", 0o644}, {"a\xff\nb", "", 0o644}},
			nil,
		},
		{
			"symbolic links are not followed", "ln -s /etc/passwd abs; ln -s a rel; echo a >a; ln -s / dir; ln -s nope broken",
			[]file{{"a", "a\n", 0o644}},
			[]sandbox.Note{
				{"abs", "symbolic link, not followed"},
				{"broken", "symbolic link, not followed"},
				{"dir", "symbolic link, not followed"},
				{"rel", "symbolic link, not followed"},
			},
		},
		{"named pipe", "mkfifo p", nil, []sandbox.Note{{"p", "named pipe"}}},
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

func TestArtifactsDevice(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make devices")
	}
	_, notes := collect(t, prepare(t, newPlain(t), sandbox.Spec{Script: []byte("mknod null c 1 3")}), nil)
	if diff := cmp.Diff([]sandbox.Note{{"null", "device"}}, notes); diff != "" {
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

func TestArtifacts10000(t *testing.T) {
	script := "mkdir $(seq 100); for d in *; do (cd $d; echo x | tee $(seq 100) >/dev/null); done"
	files, notes := collect(t, prepare(t, newPlain(t), sandbox.Spec{Script: []byte(script)}), nil)
	if len(files) != 10_000 || len(notes) > 0 {
		t.Errorf("%d files, notes %v", len(files), notes)
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
