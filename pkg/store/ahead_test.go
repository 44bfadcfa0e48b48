package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/retention"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// TestLogged: which builds are made durable by the log.
func TestLogged(t *testing.T) {
	for name, test := range map[string]struct {
		on   func(disk.FS) disk.FS
		make func(*store.Store, *testing.T) // build 1
		want bool
	}{
		"small": {nil, func(s *store.Store, t *testing.T) {
			mustCommit(t, s, buildOf("hello", 1), []string{"one"}, []file{{"f", "content"}})
		}, true},
		"long console": {nil, func(s *store.Store, t *testing.T) {
			mustCommit(t, s, buildOf("hello", 1), []string{strings.Repeat("x", 17<<10)}, nil)
		}, false},
		"begun before the log was dropped": {nil, func(s *store.Store, t *testing.T) {
			d := begin(t, s, 1)
			if err := s.Settle(); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Commit(buildOf("hello", 1)); err != nil {
				t.Fatal(err)
			}
		}, false},
		"resumed": {nil, func(s *store.Store, t *testing.T) {
			d := begin(t, s, 1)
			if err := d.Suspend(); err != nil {
				t.Fatal(err)
			}
			d, err := s.Resume("hello", number(1))
			if err == nil {
				_, err = d.Commit(buildOf("hello", 1))
			}
			if err != nil {
				t.Fatal(err)
			}
		}, false},
		"no barrier": {func(fsys disk.FS) disk.FS { return noBarrier{fsys} }, func(s *store.Store, t *testing.T) {
			mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			on := disk.FS(disktest.New(1))
			if test.on != nil {
				on = test.on(on)
			}
			s := open(t, on, scratch(t))
			test.make(s, t)
			if got := s.Logged(number(1)); got != test.want {
				t.Errorf("logged: %v", got)
			}
			if _, err := s.Build(number(1)); err != nil {
				t.Error(err)
			}
			if err := s.Settle(); (err == nil) != (test.on == nil) {
				t.Error(err)
			}
			if s.Logged(number(1)) {
				t.Error("it is still in the log")
			}
		})
	}
}

// TestSettle: the log is dropped by itself when it has grown.
func TestSettle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, disk.OS{}, dir)
	if !barrierHere(t, dir) {
		t.Skip("no barrier on this file system")
	}
	n := 0
	for n == 0 || s.Logged(number(1)) {
		n++
		mustCommit(t, s, buildOf("hello", n), []string{strings.Repeat("x", 12<<10)}, nil)
		if n > 1000 {
			t.Fatal("the log only grows")
		}
	}
	if n < 20 {
		t.Errorf("the log was dropped after %d builds", n)
	}
	s = reopen(t, s, dir)
	for i := 1; i <= n; i++ {
		if _, err := s.Build(number(i)); err != nil {
			t.Error(err)
		}
	}
	if segments, err := filepath.Glob(filepath.Join(dir, "v1/ahead/journal-*")); err != nil || len(segments) != 1 {
		t.Errorf("%v, %v", segments, err)
	}
}

func barrierHere(t *testing.T, dir string) bool {
	t.Helper()
	b, err := disk.OS{}.OpenBarrier(dir)
	if err != nil {
		return false
	}
	return b.Close() == nil
}

// TestTogether: builds that are committed while the log is being written share the
// next sync.
func TestTogether(t *testing.T) {
	const n = 9
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	waiting, batches, release := s.HoldLog()
	var group sync.WaitGroup
	for i := 1; i <= n; i++ {
		group.Go(func() { commitQuietly(t, s, buildOf(fmt.Sprint("j", i%2), i)) })
	}
	for waiting() < n {
		runtime.Gosched()
	}
	release()
	group.Wait()
	if got := batches(); got != 1 {
		t.Errorf("%d syncs for %d builds", got, n)
	}
	s = afterPowerCut(t, s, fsys, dir)
	for i := 1; i <= n; i++ {
		if _, err := s.Build(number(i)); err != nil {
			t.Error(err)
		}
	}
}

func commitQuietly(t *testing.T, s *store.Store, b job.Build) {
	t.Helper()
	if _, err := commit(s, b, []string{"line"}, nil); err != nil {
		t.Error(err)
	}
}

// TestTogetherRefused: when the disk refuses the log, all whose builds were to be in it
// hear of that, and each can be committed again.
func TestTogetherRefused(t *testing.T) {
	const n = 5
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	var drafts []*store.Draft
	for i := 1; i <= n; i++ {
		drafts = append(drafts, begin(t, s, i))
	}
	errs := make([]error, n)
	again := func() {
		waiting, _, release := s.HoldLog()
		var group sync.WaitGroup
		for i, d := range drafts {
			group.Go(func() { _, errs[i] = d.Commit(buildOf("hello", i+1)) })
		}
		for waiting() < n {
			runtime.Gosched()
		}
		fsys.Inject(disktest.Fault{Op: disktest.OpSync, N: 1, Err: syscall.EIO})
		release()
		group.Wait()
		fsys.Heal()
	}
	again()
	for i, err := range errs {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("build %d: %v", i+1, err)
		}
	}
	for i, d := range drafts {
		if _, err := d.Commit(buildOf("hello", i+1)); err != nil {
			t.Error(err)
		}
	}
	s = afterPowerCut(t, s, fsys, dir)
	for i := 1; i <= n; i++ {
		if _, err := s.Build(number(i)); err != nil {
			t.Error(err)
		}
	}
}

// afterPowerCut is the store as it is found then.
func afterPowerCut(t *testing.T, s *store.Store, fsys *disktest.FS, dir string) *store.Store {
	t.Helper()
	if err := s.Die(); err != nil {
		t.Fatal(err)
	}
	return open(t, fsys.Crash(), dir)
}

// TestPruneLogged: what was removed does not come back, and what can not be taken out
// of the log stays.
func TestPruneLogged(t *testing.T) {
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
	all := func(builds []retention.Build) (d store.Decision, _ error) {
		for _, b := range builds {
			d.Verdicts = append(d.Verdicts, retention.Verdict{Build: b, Fate: retention.Remove})
		}
		return d, nil
	}
	prune := func(want int, failure error) {
		t.Helper()
		done, err := s.Prune(context.Background(), false, all)
		if !errors.Is(err, failure) || len(done.Builds) != want {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	fsys.Inject(disktest.Fault{Op: disktest.OpBarrier, N: 1, Err: syscall.EIO})
	prune(0, syscall.EIO)
	fsys.Heal()
	if _, err := s.Build(number(1)); err != nil {
		t.Error(err)
	}
	prune(0, syscall.EIO) // the next barrier was open when that happened
	prune(1, nil)
	if err := s.Die(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fsys, dir)
	if _, err := s.Build(number(1)); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// TestBarrierLost: where there is no barrier any more, since the directory was moved to
// another file system, say, what is in the log is made durable file by file.
func TestBarrierLost(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		fsys, dir := disktest.New(seed), scratch(t)
		s := open(t, fsys, dir)
		mustCommit(t, s, buildOf("hello", 1), []string{"one"}, []file{{"f", "content"}})
		if err := s.Die(); err != nil {
			t.Fatal(err)
		}
		left := fsys.Crash()
		s = open(t, noBarrier{left}, dir)
		if s.Logged(number(1)) {
			t.Error("it is still in the log")
		}
		if err := s.Die(); err != nil {
			t.Fatal(err)
		}
		s = open(t, noBarrier{left.Crash()}, dir)
		lines, err := linesOf(s, number(1), 0)
		if err != nil || len(lines) != 1 {
			t.Errorf("seed %d: %v, %v", seed, lines, err)
		}
	}
}

// TestLogDamaged: a damaged log stops the start, and says where the damage is.
func TestLogDamaged(t *testing.T) {
	dir := t.TempDir()
	if !barrierHere(t, dir) {
		t.Skip("no barrier on this file system")
	}
	s := open(t, disk.OS{}, dir)
	for n := 1; n <= 3; n++ {
		mustCommit(t, s, buildOf("hello", n), []string{"one"}, nil)
	}
	if err := s.Die(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "v1/ahead/journal-*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 1 // in the first of three batches
	write(t, files[0], data)
	_, err = store.Open(disk.OS{}, dir, nil, zerolog.Nop())
	var damage *journal.DamageError
	if !errors.As(err, &damage) || damage.File != files[0] || !strings.Contains(err.Error(), "move") {
		t.Fatalf("opened with a damaged log: %v", err)
	}
	if _, err := store.Verify(context.Background(), disk.OS{}, dir, store.VerifyOptions{}); !errors.As(err, &damage) {
		t.Errorf("verified a damaged log: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, "v1/ahead"), filepath.Join(dir, "ahead.damaged")); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk.OS{}, dir)
	for n := 1; n <= 3; n++ {
		if _, err := s.Build(number(n)); err != nil {
			t.Error(err)
		}
	}
}

// TestVerifyLogged: what the next start makes whole is no damage.
func TestVerifyLogged(t *testing.T) {
	dir := t.TempDir()
	if !barrierHere(t, dir) {
		t.Skip("no barrier on this file system")
	}
	s := open(t, disk.OS{}, dir)
	mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
	if err := s.Die(); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, "v1/builds/hello", number(1).String(), "record")
	want, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range [][]byte{{}, bytes.Repeat([]byte{0}, len(want))} { // as after a power cut
		write(t, record, left)
		if got := verified(t, dir); got != 0 {
			t.Errorf("%d damaged", got)
		}
	}
	s = open(t, disk.OS{}, dir)
	if got, err := os.ReadFile(record); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, record, nil) // it is in no log any more
	if got := verified(t, dir); got != 1 {
		t.Errorf("%d damaged", got)
	}
}

func verified(t *testing.T, dir string) int64 {
	t.Helper()
	done, err := store.Verify(context.Background(), disk.OS{}, dir, store.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return done.Damaged
}

// TestRecordedLogged: a build that is in the log has ended, whatever the disk says: one
// that went on would be overwritten from there.
func TestRecordedLogged(t *testing.T) {
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	want := mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
	if err := s.Die(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(fsys, dir, func(uuid.UUID) bool { return true }, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fsys.Inject(
		disktest.Fault{Op: disktest.OpSync, N: 1, Err: syscall.EIO, Sticky: true},
		disktest.Fault{Op: disktest.OpRead, N: 1, Err: syscall.EIO, Sticky: true},
	)
	got, ok, err := s.Recorded("hello", number(1))
	fsys.Heal()
	if diff := cmp.Diff(want, got); !ok || err != nil || diff != "" {
		t.Fatalf("%v, %v %s", ok, err, diff)
	}
	if _, err := s.Build(number(1)); err != nil {
		t.Error(err)
	}
}

// TestLogOfLaterRelease: a build in the log whose record this release can not read is
// made whole all the same, and does not look like damage to the log.
func TestLogOfLaterRelease(t *testing.T) {
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	mustCommit(t, s, buildOf("hello", 1), []string{"one"}, nil)
	name := filepath.Join(dir, "v1/builds/hello", number(1).String(), "record")
	if err := s.Die(); err != nil {
		t.Fatal(err)
	}
	changed := func(record []byte) []byte { // it is in the entry as it is in the file
		return bytes.Replace(record, []byte("builder\n\x00\x00\x00\x01"), []byte("builder\n\x00\x00\x00\x02"), 1)
	}
	log := filepath.Join(dir, "v1/ahead")
	read, err := journal.Read(fsys, log, func() *records { return &records{} })
	if err != nil || len(*read) != 1 {
		t.Fatal(read, err)
	}
	other := filepath.Join(dir, "other")
	j, _, err := journal.Open(fsys, other, func() *records { return &records{} }, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Append(changed((*read)[0])), j.Close(), fsys.Rename(log, log+".old"), fsys.Rename(other, log)); err != nil {
		t.Fatal(err)
	}
	s = open(t, fsys, dir)
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || got[11] != 2 {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Settle(); err != nil {
		t.Error(err)
	}
}

// records are those of a journal, as they are.
type records [][]byte

func (r *records) Apply(record []byte) error {
	*r = append(*r, bytes.Clone(record))
	return nil
}

func (r *records) Snapshot() iter.Seq[[]byte] { return slices.Values(*r) }
