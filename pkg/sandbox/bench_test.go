package sandbox_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"builder/pkg/sandbox"
)

// BenchmarkBuild is a whole trivial build, beside the least that one can do.
func BenchmarkBuild(b *testing.B) {
	script := []byte("#!/bin/sh\necho hello\n")
	b.Run("sandbox", func(b *testing.B) {
		p := newPlain(b)
		for b.Loop() {
			place, err := p.Prepare(b.Context(), sandbox.Spec{Script: script})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := place.Run(b.Context(), io.Discard); err != nil {
				b.Fatal(err)
			}
			if _, _, err := place.Artifacts(nil); err != nil {
				b.Fatal(err)
			}
			if err := place.Destroy(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		root := b.TempDir()
		for b.Loop() {
			dir := filepath.Join(root, "d")
			if err := os.Mkdir(dir, 0o700); err != nil {
				b.Fatal(err)
			}
			file := filepath.Join(dir, "script")
			if err := os.WriteFile(file, script, 0o700); err != nil {
				b.Fatal(err)
			}
			if _, err := exec.Command(file).CombinedOutput(); err != nil {
				b.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
		}
	})
}
