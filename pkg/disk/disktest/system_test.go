package disktest_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
)

// subject is a file system with its root and the files that are open on it.
type subject struct {
	disk.FS
	root string
	open []disk.File
}

// do does the operation that rng says, and returns what came of it as text.
func (s *subject) do(rng *rand.Rand) string {
	names := []string{"a", "b", "d", "d/a", "d/e", "d/e/a", "a/x", "/", "none/x"}
	pick := func() string { return filepath.Join(s.root, names[rng.IntN(len(names))]) }
	file := s.open[rng.IntN(len(s.open))]
	switch op := rng.IntN(14); op {
	case 0, 1, 2:
		flag := []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR}[rng.IntN(3)]
		for _, more := range []int{os.O_CREATE, os.O_APPEND, os.O_TRUNC, os.O_EXCL | os.O_CREATE} {
			if rng.IntN(3) == 0 {
				flag |= more
			}
		}
		if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
			flag &^= os.O_TRUNC // what that does is not specified
		}
		name, slot := pick(), rng.IntN(len(s.open))
		f, err := s.OpenFile(name, flag, 0o644)
		if err != nil {
			return fmt.Sprint("open ", flag, number(err))
		}
		if info, err := f.Stat(); err != nil || info.IsDir() {
			f.Close() // reading and seeking in a directory is not specified
			return fmt.Sprint("open ", describe(info, err))
		}
		s.open[slot].Close()
		s.open[slot] = f
		return fmt.Sprint("open ", flag, number(err))
	case 3:
		return fmt.Sprint("mkdir ", number(s.Mkdir(pick(), 0o755)))
	case 4:
		from, to := pick(), pick()
		if from == s.root || to == s.root {
			return "" // the root of one is no root of the other
		}
		return fmt.Sprint("rename ", number(s.Rename(from, to)))
	case 5:
		name := pick()
		if name == s.root {
			return ""
		}
		return fmt.Sprint("remove ", number(s.Remove(name)))
	case 6:
		text := "readdir"
		list, err := s.ReadDir(pick())
		for _, entry := range list {
			text += fmt.Sprint(" ", entry.Name(), entry.IsDir())
		}
		return fmt.Sprint(text, number(err))
	case 7:
		info, err := s.Stat(pick())
		return fmt.Sprint("stat ", describe(info, err))
	case 8:
		name := pick()
		if info, err := s.Stat(name); rng.IntN(10) > 0 || err == nil && !info.IsDir() {
			return "" // slow; and the system would sync a file too
		}
		return fmt.Sprint("syncdir ", number(s.SyncDir(name)))
	case 9:
		if rng.IntN(20) == 0 {
			return fmt.Sprint("sync ", number(file.Sync()))
		}
		p := make([]byte, rng.IntN(100))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		n, err := file.Write(p)
		return fmt.Sprint("write ", n, number(err))
	case 10:
		p := make([]byte, rng.IntN(100))
		n, err := file.Read(p)
		return fmt.Sprintf("read %x %s", p[:max(n, 0)], number(err))
	case 11:
		p := make([]byte, rng.IntN(100))
		n, err := file.ReadAt(p, rng.Int64N(100))
		return fmt.Sprintf("readat %x %s", p[:n], number(err))
	case 12:
		n, err := file.Seek(rng.Int64N(100)-10, rng.IntN(3))
		return fmt.Sprint("seek ", n, number(err))
	default:
		err := file.Truncate(rng.Int64N(150))
		info, err2 := file.Stat()
		return fmt.Sprint("truncate ", number(err), describe(info, err2))
	}
}

func describe(info fs.FileInfo, err error) string {
	switch {
	case err != nil:
		return number(err)
	case info.IsDir():
		return " directory"
	default:
		return fmt.Sprint(" file ", info.Size())
	}
}

// number is the error of the system in err.
func number(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return fmt.Sprintf(" (%v)", e)
	case errors.Is(err, io.EOF):
		return " EOF"
	default:
		return " " + err.Error()
	}
}

// As long as nothing fails, the disk in memory does what the system does.
func TestLikeTheSystem(t *testing.T) {
	first := rand.Uint64() >> 16
	t.Logf("first seed %d", first)
	for seed := first; seed < first+10; seed++ {
		subjects := []*subject{
			{FS: disk.OS{}, root: t.TempDir()},
			{FS: disktest.New(seed), root: "/"},
		}
		var ways []*rand.Rand
		for _, s := range subjects {
			for i := range 3 {
				f, err := s.OpenFile(filepath.Join(s.root, fmt.Sprint("first", i)), os.O_RDWR|os.O_CREATE, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				s.open = append(s.open, f)
			}
			ways = append(ways, rand.New(rand.NewPCG(seed, 0)))
		}
		for i := range 300 {
			system, memory := subjects[0].do(ways[0]), subjects[1].do(ways[1])
			if system != memory {
				t.Fatalf("seed %d, operation %d: the system says %q, disktest %q", seed, i, system, memory)
			}
		}
		for _, s := range subjects {
			for _, f := range s.open {
				f.Close()
			}
		}
	}
}
