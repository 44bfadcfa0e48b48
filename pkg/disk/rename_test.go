package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/disk"
)

// TestRenameNew: what has the name already is not replaced, and nothing is moved.
func TestRenameNew(t *testing.T) {
	for how, rename := range map[string]func(oldname, newname string) error{"one call": disk.RenameNew, "two calls": disk.LookAndRename} {
		for name, tt := range map[string]struct {
			from, to string
			want     error
		}{
			"file":                   {from: "file", to: "new"},
			"directory":              {from: "empty", to: "new"},
			"file for a file":        {from: "file", to: "other", want: fs.ErrExist},
			"file for a link":        {from: "file", to: "dangling", want: fs.ErrExist},
			"directory for an empty": {from: "empty", to: "empty too", want: fs.ErrExist},
			"nothing":                {from: "missing", to: "new", want: fs.ErrNotExist},
			"to nowhere":             {from: "file", to: "missing/new", want: fs.ErrNotExist},
		} {
			t.Run(how+": "+name, func(t *testing.T) {
				dir := t.TempDir()
				if err := errors.Join(
					os.WriteFile(filepath.Join(dir, "file"), []byte("file"), 0o600),
					os.WriteFile(filepath.Join(dir, "other"), []byte("other"), 0o600),
					os.Symlink("nowhere", filepath.Join(dir, "dangling")),
					os.Mkdir(filepath.Join(dir, "empty"), 0o700),
					os.Mkdir(filepath.Join(dir, "empty too"), 0o700),
				); err != nil {
					t.Fatal(err)
				}
				from, to := filepath.Join(dir, tt.from), filepath.Join(dir, tt.to)
				before, _ := os.Lstat(from)
				if err := rename(from, to); !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if tt.want != nil {
					to = from
				}
				if after, err := os.Lstat(to); tt.from != "missing" && (err != nil || !os.SameFile(before, after)) {
					t.Errorf("it is not at %s: %v", to, err)
				}
				if other, err := os.ReadFile(filepath.Join(dir, "other")); err != nil || string(other) != "other" {
					t.Errorf("the other file is %q, %v", other, err)
				}
			})
		}
	}
}
