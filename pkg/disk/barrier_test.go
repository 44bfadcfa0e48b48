package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"builder/pkg/disk"
)

func TestBarrier(t *testing.T) {
	dir := t.TempDir()
	b, err := disk.OS{}.OpenBarrier(dir)
	if errors.Is(err, disk.ErrNoBarrier) {
		t.Skip("no barrier on this file system: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Sync(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Sync(); err == nil {
		t.Error("synced a closed barrier")
	}
}

func TestNoBarrier(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, err := (disk.OS{}).OpenBarrier(t.TempDir()); !errors.Is(err, disk.ErrNoBarrier) {
			t.Error(err)
		}
		return
	}
	// Nothing is known of what lies under /proc.
	if _, err := (disk.OS{}).OpenBarrier("/proc"); !errors.Is(err, disk.ErrNoBarrier) {
		t.Error(err)
	}
	if _, err := (disk.OS{}).OpenBarrier(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, disk.ErrNoBarrier) {
		t.Error(err)
	}
}
