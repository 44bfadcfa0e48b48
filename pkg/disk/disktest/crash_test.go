package disktest_test

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"

	"github.com/google/go-cmp/cmp"
)

// script does operations on a disk; the first error that is not expected ends
// the test.
type script struct {
	t  *testing.T
	fs *disktest.FS
}

func (s script) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// write opens name and writes text at offset.
func (s script) write(name string, offset int64, text string) disk.File {
	s.t.Helper()
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	s.check(err)
	_, err = f.Seek(offset, io.SeekStart)
	s.check(err)
	_, err = f.Write([]byte(text))
	s.check(err)
	return f
}

// durable writes a file and syncs all of it.
func (s script) durable(name, text string) disk.File {
	s.t.Helper()
	f := s.write(name, 0, text)
	s.check(f.Sync())
	s.check(s.fs.SyncDir(path.Dir(name)))
	return f
}

// tree is what is on a disk, as text: "a=content d/ d/b=content".
func tree(t *testing.T, fsys disk.FS, dir string) string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if entry.IsDir() {
			all = append(all, name[1:]+"/")
			if below := tree(t, fsys, name); below != "" {
				all = append(all, below)
			}
			continue
		}
		f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		all = append(all, fmt.Sprintf("%s=%s", name[1:], strings.ReplaceAll(string(data), "\x00", "0")))
	}
	return strings.Join(all, " ")
}

func piece(letter string) string { return strings.Repeat(letter, 32) }

// TestCrash runs a script on many disks: what a power cut leaves is always one
// of the results, and every one of them is met.
func TestCrash(t *testing.T) {
	a, b, c, zero := piece("a"), piece("b"), piece("c"), piece("0")
	tests := map[string]struct {
		run  func(s script)
		want []string
	}{
		"nothing": {func(script) {}, []string{""}},
		"all synced": {
			func(s script) { s.durable("/f", "ab") },
			[]string{"f=ab"},
		},
		"name not synced": {
			func(s script) { s.check(s.write("/f", 0, "ab").Sync()) },
			[]string{"", "f=ab"},
		},
		"data not synced": {
			func(s script) { s.write("/f", 0, "ab"); s.check(s.fs.SyncDir("/")) },
			[]string{"f=", "f=00", "f=ab"},
		},
		"part overwritten": {
			func(s script) { s.durable("/f", a+a); s.write("/f", 32, b) },
			[]string{"f=" + a + a, "f=" + a + b},
		},
		"overwritten twice": {
			func(s script) { s.durable("/f", a); s.write("/f", 0, b); s.write("/f", 0, c) },
			[]string{"f=" + a, "f=" + b, "f=" + c},
		},
		"appended": {
			func(s script) { s.durable("/f", a); s.write("/f", 32, b) },
			[]string{"f=" + a, "f=" + a + zero, "f=" + a + b},
		},
		"each piece by itself": {
			func(s script) { s.durable("/f", a+a); s.write("/f", 0, b+b) },
			[]string{"f=" + a + a, "f=" + a + b, "f=" + b + a, "f=" + b + b},
		},
		"shortened": {
			func(s script) { s.check(s.durable("/f", a+b).Truncate(32)) },
			[]string{"f=" + a, "f=" + a + b, "f=" + a + zero},
		},
		"shortened and synced": {
			func(s script) { f := s.durable("/f", a+b); s.check(f.Truncate(32)); s.check(f.Sync()) },
			[]string{"f=" + a},
		},
		"renamed": {
			func(s script) { s.durable("/f", "a"); s.durable("/g", "b"); s.check(s.fs.Rename("/g", "/f")) },
			[]string{"f=a g=b", "f=b"},
		},
		"renamed and synced": {
			func(s script) {
				s.durable("/f", "a")
				s.durable("/g", "b")
				s.check(s.fs.Rename("/g", "/f"))
				s.check(s.fs.SyncDir("/"))
			},
			[]string{"f=b"},
		},
		"renamed, data not synced": {
			func(s script) { s.write("/g", 0, "b"); s.check(s.fs.Rename("/g", "/f")); s.check(s.fs.SyncDir("/")) },
			[]string{"f=", "f=0", "f=b"},
		},
		"renamed twice": {
			func(s script) {
				s.durable("/f", "a")
				s.check(s.fs.Rename("/f", "/g"))
				s.check(s.fs.Rename("/g", "/h"))
			},
			[]string{"f=a", "g=a", "h=a"},
		},
		"renamed to another directory, one synced": {
			func(s script) {
				s.check(s.fs.Mkdir("/d", 0o755))
				s.durable("/f", "a")
				s.check(s.fs.Rename("/f", "/d/f"))
				s.check(s.fs.SyncDir("/"))
			},
			[]string{"d/ f=a", "d/ d/f=a"},
		},
		"renamed to another directory, name taken again": {
			func(s script) {
				s.check(s.fs.Mkdir("/d", 0o755))
				s.durable("/f", "a")
				s.check(s.fs.Rename("/f", "/d/f"))
				s.durable("/f", "b")
			},
			[]string{"d/ f=b", "d/ d/f=a f=b"},
		},
		"removed": {
			func(s script) { s.durable("/f", "a"); s.check(s.fs.Remove("/f")) },
			[]string{"", "f=a"},
		},
		"removed and made again": {
			func(s script) {
				s.durable("/f", "a")
				s.check(s.fs.Remove("/f"))
				s.check(s.write("/f", 0, "b").Sync())
			},
			[]string{"", "f=a", "f=b"},
		},
		"directory not synced": {
			func(s script) { s.check(s.fs.Mkdir("/d", 0o755)); s.durable("/d/f", "a") },
			[]string{"", "d/ d/f=a"},
		},
		"sync failed": {
			func(s script) {
				f := s.durable("/f", a)
				s.write("/f", 0, b)
				s.failSync(f)
				s.check(f.Sync()) // a lie
			},
			[]string{"f=" + a, "f=" + b},
		},
		"sync failed, length": {
			func(s script) { f := s.durable("/f", a); s.check(f.Truncate(0)); s.failSync(f); s.check(f.Sync()) },
			[]string{"f=" + a, "f=" + zero, "f="},
		},
		"sync failed, written again": {
			func(s script) {
				f := s.durable("/f", a)
				s.write("/f", 0, b+b)
				s.failSync(f)
				s.write("/f", 0, b+b)
				s.check(f.Sync())
			},
			[]string{"f=" + b + b},
		},
		"directory sync failed": {
			func(s script) {
				s.check(s.write("/f", 0, "a").Sync())
				s.fs.Inject(disktest.Fault{Op: disktest.OpSyncDir, N: 1, Err: syscall.EIO})
				if err := s.fs.SyncDir("/"); err == nil {
					s.t.Fatal("no error")
				}
			},
			[]string{"", "f=a"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			met := map[string]bool{}
			for seed := range uint64(200) {
				s := script{t, disktest.New(seed)}
				test.run(s)
				met[tree(t, s.fs.Crash(), "/")] = true
			}
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, slices.Sorted(maps.Keys(met))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func (s script) failSync(f disk.File) {
	s.t.Helper()
	s.fs.Inject(disktest.Fault{Op: disktest.OpSync, N: 1, Err: syscall.EIO})
	if err := f.Sync(); err == nil {
		s.t.Fatal("no error")
	}
	s.fs.Heal()
}

// What a crash has left is durable, and the same seed leaves the same.
func TestCrashAgain(t *testing.T) {
	for seed := range uint64(50) {
		var left [2]string
		for i := range left {
			s := script{t, disktest.New(seed)}
			s.durable("/f", piece("a"))
			s.write("/f", 16, piece("b")+piece("c"))
			s.write("/g", 0, "g")
			fsys := s.fs.Crash()
			left[i] = tree(t, fsys, "/")
			for range 3 {
				fsys = fsys.Crash()
				if diff := cmp.Diff(left[i], tree(t, fsys, "/")); diff != "" {
					t.Fatalf("seed %d: another crash: %s", seed, diff)
				}
			}
		}
		if left[0] != left[1] {
			t.Errorf("seed %d: left %q, then %q", seed, left[0], left[1])
		}
	}
}
