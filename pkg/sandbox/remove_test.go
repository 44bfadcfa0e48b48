package sandbox_test

import (
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/sandbox"
)

// TestDestroy has builds change what is beside their output directory. newPlain and prepare
// check that nothing is left of it.
func TestDestroy(t *testing.T) {
	tests := []struct{ name, script string }{
		{"beside the output", "mkdir -p ../x/y $HOME/y $TMPDIR/y; chmod 0 ../x $HOME $TMPDIR"},
		{"script removed", "rm -rf ../*"},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { run(t, p, test.script) })
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
