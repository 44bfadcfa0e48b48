package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/server"
	"builder/pkg/wire"

	"golang.org/x/sys/unix"
)

// TestReserveOnDisk fills a real, small disk and empties it again.
func TestReserveOnDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount a small disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skip("no small disk can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	r := start(t, func(c *server.Config) { c.Dir, c.Reserve = filepath.Join(dir, "data"), 8<<20 })
	if got := r.status().Paused; got != "" {
		t.Fatalf("paused at first: %q", got)
	}
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 10<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "the disk is nearly full", func() bool { return strings.Contains(r.status().Paused, "8.0 MiB are kept") })
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	r.waiting("p", 1)
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	w.begin()
}
