package console_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/console"
)

// FuzzFiles reads any two files as a console: nothing is worse than a
// DamageError, and what Reopen keeps is what Forward gave.
func FuzzFiles(f *testing.F) {
	dir := written(f, oddPieces())
	text, err := os.ReadFile(filepath.Join(dir, console.TextFile))
	must(f, err)
	index, err := os.ReadFile(filepath.Join(dir, console.IndexFile))
	must(f, err)
	f.Add(text, index)
	f.Add(text[:20], index)
	f.Add(text, append(index[:entrySize:entrySize], index...))
	f.Fuzz(func(t *testing.T, text, index []byte) {
		var d damaged
		d.write(t, text, index)
		r, err := console.Open(d.fsys, ".")
		must(t, err)
		var damage *console.DamageError
		forward, err := collect(r.Forward(0))
		if err != nil && !errors.As(err, &damage) {
			t.Fatal(err)
		}
		sound := err == nil
		backward, err := collect(r.Backward())
		if err != nil && (sound || !errors.As(err, &damage)) {
			t.Fatal(err)
		}
		if sound {
			if diff := difference(reversed(forward), backward); diff != "" {
				t.Fatalf("backward: %s", diff)
			}
		}
		must(t, r.Close())

		w, err := console.Reopen(d.fsys, ".")
		must(t, err)
		must(t, w.Close())
		kept, err := readFrom(t, d.fsys, ".")
		must(t, err)
		if diff := difference(forward, kept); diff != "" {
			t.Fatalf("kept by Reopen: %s", diff)
		}
	})
}
