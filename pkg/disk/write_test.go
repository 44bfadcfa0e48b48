package disk_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
)

func write(fsys disk.FS, name, text string) error {
	return disk.WriteFile(fsys, name, 0o644, func(w io.Writer) error {
		for _, part := range []string{text[:len(text)/2], text[len(text)/2:]} {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		return nil
	})
}

func read(fsys disk.FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return string(data), err
}

// TestWriteFileIsWhole cuts the power in, or lets fail, every operation of
// WriteFile: the file is the old one or the new one, and the new one when
// WriteFile has said so.
func TestWriteFileIsWhole(t *testing.T) {
	const before, after = "the file as it was before", "and what it is to be afterwards, a little longer"
	for seed := range uint64(60) {
		for _, fault := range []error{disktest.ErrPowerCut, syscall.ENOSPC} {
			for n := 1; ; n++ {
				fsys := disktest.New(seed)
				if err := write(fsys, "/f", before); err != nil {
					t.Fatal(err)
				}
				fsys.Inject(disktest.Fault{N: n, Err: fault})
				writing := write(fsys, "/f", after)
				if writing != nil && !errors.Is(writing, fault) {
					t.Fatal(writing)
				}
				got, err := read(fsys.Crash(), "/f")
				if err != nil {
					t.Fatalf("seed %d, %v in operation %d: %v", seed, fault, n, err)
				}
				if got != after && (got != before || writing == nil) {
					t.Fatalf("seed %d, %v in operation %d: found %q, WriteFile said %v", seed, fault, n, got, writing)
				}
				if writing == nil {
					break
				}
			}
		}
	}
}

func TestWriteFileLeavesNothingBehind(t *testing.T) {
	for _, op := range []disktest.Op{disktest.OpWrite, disktest.OpSync, disktest.OpRename} {
		fsys := disktest.New(1)
		fsys.Inject(disktest.Fault{Op: op, N: 1, Err: syscall.EIO})
		if err := write(fsys, "/f", "text"); !errors.Is(err, syscall.EIO) {
			t.Errorf("kind %d: %v", op, err)
		}
		list, err := fsys.ReadDir("/")
		if err != nil || len(list) > 0 {
			t.Errorf("kind %d: left %v, %v", op, list, err)
		}
	}
}

// TestMkdirAllIsDurable kills a process in every operation of MkdirAll: what the
// next one makes is there for good.
func TestMkdirAllIsDurable(t *testing.T) {
	for seed := range uint64(60) {
		for n := 1; ; n++ {
			fsys := disktest.New(seed)
			fsys.Inject(disktest.Fault{N: n, Err: syscall.EINTR, Sticky: true})
			killed := disk.MkdirAll(fsys, "/a/b/c", 0o755) != nil
			fsys.Heal()
			if err := disk.MkdirAll(fsys, "/a/b/c", 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := fsys.Crash().Stat("/a/b/c"); err != nil {
				t.Fatalf("seed %d, killed in operation %d: %v", seed, n, err)
			}
			if !killed {
				break
			}
		}
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := disk.MkdirAll(disk.OS{}, filepath.Join(dir, "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(disk.OS{}, filepath.Join(dir, "f"), "text"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f", "f/g"} {
		if err := disk.MkdirAll(disk.OS{}, filepath.Join(dir, name), 0o755); err == nil {
			t.Errorf("made %s, where f is a file", name)
		}
	}
}

// unreadable is a file system whose root may not be opened.
type unreadable struct{ disk.FS }

func (u unreadable) SyncDir(name string) error {
	if name == "/" {
		return fmt.Errorf("opening %s: %w", name, fs.ErrPermission)
	}
	return u.FS.SyncDir(name)
}

func TestMkdirAllBelowUnreadable(t *testing.T) {
	fsys := disktest.New(1)
	if err := fsys.Mkdir("/home", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll(unreadable{fsys}, "/home/a", 0o755); err != nil {
		t.Error(err)
	}
	if err := disk.MkdirAll(unreadable{fsys}, "/other", 0o755); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a directory that can not be made durable: %v", err)
	}
}
