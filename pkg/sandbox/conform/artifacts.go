package conform

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/sandbox"
)

// artifacts are what is collected of the files that a build leaves.
func (s *suite) artifacts(t *testing.T) {
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
				{Path: "abs", Text: "symbolic link, not followed"},
				{Path: "broken", Text: "symbolic link, not followed"},
				{Path: "dir", Text: "symbolic link, not followed"},
				{Path: "rel", Text: "symbolic link, not followed"},
			},
		},
		{"named pipe", "mkfifo p", nil, []sandbox.Note{{Path: "p", Text: "named pipe"}}},
	}
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			files, notes := s.collect(t, test.script)
			equal(t, "files", test.files, files)
			equal(t, "notes", test.notes, notes)
		})
	}
}

func (s *suite) manyArtifacts(t *testing.T) {
	files, notes := s.collect(t, "mkdir $(seq 100); for d in *; do (cd $d; echo x | tee $(seq 100) >/dev/null); done")
	if len(files) != 10_000 || len(notes) > 0 {
		t.Errorf("%d files, notes %v", len(files), notes)
	}
}

// largeArtifacts are a large file, and one that only says that it is: nobody reads
// it whole.
func (s *suite) largeArtifacts(t *testing.T) {
	const large, sparse = 64 << 20, 100 << 30
	what, _ := spec("set -e; head -c 67108864 /dev/zero >large; truncate -s 107374182400 sparse")
	place := s.prepare(t, what)
	exit, console, err := runIn(t.Context(), place)
	if err != nil || exit.Code != 0 {
		t.Fatalf("exit %+v, console %q, error %v", exit, console, err)
	}
	artifacts, notes, err := place.Artifacts(nil)
	if err != nil || len(artifacts) != 2 || len(notes) > 0 || artifacts[0].Size != large || artifacts[1].Size != sparse {
		t.Fatalf("artifacts %v, notes %v, error %v", artifacts, notes, err)
	}
	for _, artifact := range artifacts {
		f, err := artifact.Open()
		if err != nil {
			t.Fatal(err)
		}
		last := []byte{1, 1}
		n, err := f.ReadAt(last, artifact.Size-1)
		if n != 1 || err != io.EOF || !bytes.Equal(last, []byte{0, 1}) { //nolint:errorlint // io.EOF is never wrapped
			t.Errorf("%s: %d octets, %v", artifact.Path, n, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// devices are noted where a build can make them at all.
func (s *suite) devices(t *testing.T) {
	files, notes := s.collect(t, "mknod null c 1 3 2>/dev/null || echo >refused")
	switch {
	case len(files) == 1 && files[0].Path == "refused" && len(notes) == 0:
	case len(files) == 0:
		equal(t, "notes", []sandbox.Note{{Path: "null", Text: "device"}}, notes)
	default:
		t.Errorf("files %v, notes %v", files, notes)
	}
}

// destroy has builds leave what is hard to remove.
func (s *suite) destroy(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep")
	if err := os.WriteFile(keep, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, script string }{
		{"read-only directories", "mkdir -p a/b/c; : >a/b/c/f; chmod -R a-w a"},
		{"unreadable directories", "mkdir -p a/b/c; : >a/b/c/f; chmod 0 a/b/c; chmod 0 a/b; chmod 0 a"},
		{"its own directory", "mkdir a; chmod 0 a; chmod 0 .; chmod 0 .. || :"},
		{"links out", "ln -s " + filepath.Dir(keep) + " a; mkdir b; ln -s " + keep + " b/c; chmod 0 b"},
		{"beside the output", "mkdir -p $HOME/y $TMPDIR/y; chmod 0 $HOME $TMPDIR"},
		{"deeply nested", `D=$(printf 'd/%.0s' $(seq 1000)); for i in 1 2 3; do mkdir -p $D; cd $D; done; chmod 0 .`},
		{"everything removed", `rm -rf "$(dirname "$BUILDER_OUTPUT")" || :`},
	}
	before := s.look(t, s.site)
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			s.run(t, test.script)
		})
	}
	s.settle(t, s.site, before)
	if content, err := os.ReadFile(keep); err != nil || string(content) != "x" {
		t.Errorf("a file outside: %q, %v", content, err)
	}
}
