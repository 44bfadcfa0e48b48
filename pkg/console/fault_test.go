package console_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"

	"builder/pkg/console"
	"builder/pkg/disk/disktest"
)

func TestErrorOfTheDiskIsKept(t *testing.T) {
	cases := map[string]struct {
		op disktest.Op
		n  int
	}{
		"writing the text":  {disktest.OpWrite, 5},
		"writing the index": {disktest.OpWrite, 6},
		"syncing one file":  {disktest.OpSync, 5},
		"syncing the other": {disktest.OpSync, 6},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.New(1)
			w, err := console.Create(fsys, ".")
			must(t, err)
			fsys.Inject(disktest.Fault{Op: c.op, N: c.n, Err: syscall.ENOSPC})
			o := w.Observe(0)
			defer o.Close()
			for n := int64(0); ; n += 2 {
				must(t, w.Append(numbered(n), numbered(n+1)))
				if err := w.Sync(); errors.Is(err, syscall.ENOSPC) {
					break
				} else if err != nil || n > 100 {
					t.Fatalf("line %d: %v", n, err)
				}
			}
			for name, err := range map[string]error{"append": w.Append(numbered(0)), "flush": w.Flush(), "sync": w.Sync()} {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("%s after the error: %v", name, err)
				}
			}
			flushed := w.Lines()
			must(t, w.Close())
			got, err := follow(t.Context(), o)
			must(t, err)
			kept, err := readFrom(t, fsys, ".")
			must(t, err)
			if diff := difference(got, kept); diff != "" || int64(len(got)) != flushed {
				t.Errorf("observed %d lines of %d, the files have %d: %s", len(got), flushed, len(kept), diff)
			}
		})
	}
}

func TestErrorDuringCloseIsReported(t *testing.T) {
	fsys := disktest.New(1)
	w, err := console.Create(fsys, ".")
	must(t, err)
	must(t, w.Append(oddLines()...))
	fsys.Inject(disktest.Fault{Op: disktest.OpWrite, N: 2, Err: syscall.ENOSPC})
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	if got, err := readFrom(t, fsys, "."); len(got) != 0 || err != nil {
		t.Errorf("the files have %d lines, %v", len(got), err)
	}
	o := w.Observe(0)
	defer o.Close()
	if _, _, err := o.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("observing: %v", err)
	}
}

func TestOpeningReportsErrors(t *testing.T) {
	fsys := disktest.New(1)
	w, err := console.Create(fsys, ".")
	must(t, err)
	must(t, w.Append(oddLines()...))
	must(t, w.Sync()) // a sync that fails may lose what was not
	must(t, w.Close())
	for name, op := range map[string]disktest.Op{
		"opening": disktest.OpOpen, "reading": disktest.OpRead,
		"cutting": disktest.OpTruncate, "syncing": disktest.OpSync,
	} {
		for n := 1; n <= 2; n++ {
			fsys.Heal()
			fsys.Inject(disktest.Fault{Op: op, N: n, Err: syscall.EIO})
			if _, err := console.Reopen(fsys, "."); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s %d: %v", name, n, err)
			}
		}
	}
	fsys.Heal()
	got, err := readFrom(t, fsys, ".")
	must(t, err)
	if diff := difference(oddLines(), got); diff != "" {
		t.Errorf("after the errors: %s", diff)
	}
}

// rounds makes the random tests longer: CONSOLE_ROUNDS times.
func rounds() int {
	n, err := strconv.Atoi(os.Getenv("CONSOLE_ROUNDS"))
	if err != nil {
		return 1
	}
	return n
}

// life is one run of a server with a console: what it appended, and how much of
// that it was told is durable.
type life struct {
	appended []console.Line
	durable  int
}

// append appends a line. Those of different lives have the same length, with the
// newline a sector of disktest, so that remains of one could pass for the other's.
func (l *life) append(w *console.Writer, generation int) error {
	line := console.Line{Data: fmt.Appendf(nil, "life %010d line %010d", generation, len(l.appended))}
	l.appended = append(l.appended, line)
	return w.Append(line)
}

// goOn appends, flushes and syncs at random until something fails or it ends.
func (l *life) goOn(random *rand.Rand, w *console.Writer, generation int) {
	for range 1 + random.IntN(12) {
		var err error
		switch random.IntN(4) {
		case 0, 1:
			err = l.append(w, generation)
		case 2:
			err = w.Flush()
		case 3:
			if err = w.Sync(); err == nil {
				l.durable = len(l.appended)
			}
		}
		if err != nil {
			return
		}
	}
}

// check says what is wrong with the lines found after a power cut.
func (l *life) check(found []console.Line) error {
	if len(found) < l.durable {
		return fmt.Errorf("%d lines were durable, %d were found", l.durable, len(found))
	}
	if len(found) > len(l.appended) || difference(l.appended[:len(found)], found) != "" {
		return fmt.Errorf("found what was not appended: %s", difference(l.appended, found))
	}
	return nil
}

// Over many lives with a power cut or a failing disk in any operation, also in
// those of Reopen: what was synced is there, and nothing that was not appended.
func TestPowerCutAnywhere(t *testing.T) {
	random := seed(t)
	fail := func(fsys *disktest.FS) {
		n := 1 + random.IntN(20)
		if random.IntN(8) == 0 {
			fsys.Inject(disktest.Fault{Op: disktest.OpAny, N: n, Err: syscall.EIO})
		} else {
			fsys.CutAt(n)
		}
	}
	for range 100 * rounds() {
		fsys := disktest.New(random.Uint64())
		l := life{}
		w, err := console.Create(fsys, ".")
		must(t, err)
		must(t, fsys.SyncDir("."))
		for generation := range 12 {
			fail(fsys)
			l.goOn(random, w, generation)
			if random.IntN(2) == 0 {
				w.Close() // fails as the disk does; what is found is what counts
			}
			fsys = fsys.Crash()
			for random.IntN(2) == 0 {
				fail(fsys)
				if again, err := console.Reopen(fsys, "."); err == nil {
					again.Close()
				}
				fsys = fsys.Crash()
			}
			w, err = console.Reopen(fsys, ".")
			must(t, err)
			found, err := readFrom(t, fsys, ".")
			must(t, err)
			if err := l.check(found); err != nil {
				t.Fatalf("life %d: %v", generation, err)
			}
			l = life{appended: found, durable: len(found)}
		}
	}
}

// The cut of Reopen is durable before anything is appended behind it: else a
// power cut could bring back an old line behind a new one.
func TestOldLinesStayDead(t *testing.T) {
	random := seed(t)
	fsys := disktest.New(random.Uint64())
	w, err := console.Create(fsys, ".")
	must(t, err)
	must(t, fsys.SyncDir("."))
	var l life
	for range 5 {
		must(t, l.append(w, 0))
	}
	must(t, w.Sync())
	must(t, w.Close())
	text, err := fsys.OpenFile(console.TextFile, os.O_RDWR, 0)
	must(t, err)
	_, err = text.Seek(int64(3*(len(l.appended[0].Data)+1)), io.SeekStart)
	must(t, err)
	_, err = text.Write([]byte("damage"))
	must(t, err)
	must(t, text.Sync())

	w, err = console.Reopen(fsys, ".")
	must(t, err)
	l = life{appended: l.appended[:w.Lines()], durable: 3}
	must(t, l.append(w, 1))
	must(t, w.Flush())
	for range 1000 * rounds() {
		left := fsys.Crash() // each time something else is left
		w, err = console.Reopen(left, ".")
		must(t, err)
		must(t, w.Close())
		found, err := readFrom(t, left, ".")
		must(t, err)
		if err := l.check(found); err != nil {
			t.Fatal(err)
		}
	}
}
