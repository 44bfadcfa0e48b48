package sandbox_test

import (
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/sandbox"
)

// TestDestroy has builds leave what is hard to remove. newPlain and prepare
// check that nothing is left of it.
func TestDestroy(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep")
	if err := os.WriteFile(keep, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, script string }{
		{"read-only directories", "mkdir -p a/b/c; : >a/b/c/f; chmod -R a-w a"},
		{"unreadable directories", "mkdir -p a/b/c; : >a/b/c/f; chmod 0 a/b/c; chmod 0 a/b; chmod 0 a"},
		{"its own directory", "mkdir a; chmod 0 a; chmod 0 .; chmod 0 .."},
		{"links out", "ln -s " + filepath.Dir(keep) + " a; mkdir b; ln -s " + keep + " b/c; chmod 0 b"},
		{"beside the output", "mkdir -p ../x/y $HOME/y $TMPDIR/y; chmod 0 ../x $HOME $TMPDIR"},
		{"deeply nested", `D=$(printf 'd/%.0s' $(seq 1000)); for i in 1 2 3; do mkdir -p $D; cd $D; done; chmod 0 .`},
		{"script removed", "rm -rf ../*"},
		{"everything removed", `rm -rf "$(dirname "$BUILDER_OUTPUT")"`},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { run(t, p, test.script) })
	}
	if content, err := os.ReadFile(keep); err != nil || string(content) != "x" {
		t.Errorf("a file outside: %q, %v", content, err)
	}
}

func TestSweep(t *testing.T) {
	root := t.TempDir()
	stale := filepath.Join(root, "b-0123-stale", "out", "d")
	if err := os.MkdirAll(stale, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(stale), 0); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(root, "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := sandbox.NewPlain(root, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	place := prepare(t, p, sandbox.Spec{Script: []byte("echo runs")})
	if err := p.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "b-0123-stale")); !os.IsNotExist(err) {
		t.Errorf("the stale place: %v", err)
	}
	if _, err := os.Lstat(foreign); err != nil {
		t.Errorf("what is not ours: %v", err)
	}
	if _, console, err := runIn(t.Context(), place); err != nil || console != "runs\n" {
		t.Errorf("the place in use: %q, %v", console, err)
	}
}

// TestReattach: a later process finds the place of a killed one by its name,
// Sweep leaves it alone, and what was in it can be read, moved away and removed.
func TestReattach(t *testing.T) {
	root := t.TempDir()
	first, err := sandbox.NewPlain(root, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	left := prepare(t, first, sandbox.Spec{Build: "0123", Script: []byte("echo kept > file; mkdir d; echo x > d/other; chmod 500 .")})
	if _, _, err := runIn(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	second, err := sandbox.NewPlain(root, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, name := range []string{"", "b-none", "../" + filepath.Base(root), left.Name() + "/out", "foreign"} {
		if _, err := second.Reattach(name); err == nil {
			t.Errorf("%q was attached", name)
		}
	}
	again, err := second.Reattach(left.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
	if _, _, err := runIn(t.Context(), again); err == nil {
		t.Error("it was run again")
	}
	artifacts, _, err := again.Artifacts(nil)
	if err != nil || len(artifacts) != 2 || artifacts[0].Path != "d/other" || artifacts[1].Path != "file" {
		t.Errorf("artifacts %v, %v", artifacts, err)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	if err := again.Salvage(aside); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(filepath.Join(aside, "file")); err != nil || string(content) != "kept\n" {
		t.Errorf("salvaged %q, %v", content, err)
	}
	if err := again.Destroy(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := sandbox.Remove(aside); err != nil {
		t.Error(err)
	}
}
