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

// smallDisk mounts a file system with these options.
func smallDisk(t *testing.T, options string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small file system can be mounted by root only")
	}
	dir = t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a small file system can not be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestReserveOnDisk fills a real, small disk and empties it again.
func TestReserveOnDisk(t *testing.T) {
	dir := smallDisk(t, "size=16m")
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
