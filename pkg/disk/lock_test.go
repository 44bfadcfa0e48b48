package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	release, err := disk.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = disk.Lock(dir)
	if err == nil {
		t.Fatal("locked twice")
	}
	for _, want := range []string{dir, fmt.Sprintf("process %d", os.Getpid()), "stop that process"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = disk.Lock(dir)
	if err != nil {
		t.Fatalf("locking again after release: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockAfterLongerID(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("123456789012345\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	release, err := disk.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintln(os.Getpid()); string(got) != want {
		t.Errorf("lock file holds %q, want %q", got, want)
	}
}

func TestLockWithoutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := disk.Lock(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want not exist, with the directory's name", err)
	}
}
