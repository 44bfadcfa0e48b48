package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// These tests run one history of a store on a disk that forgets, stop it in every
// operation, and look at what is left. Syncs run at once, so a seed repeats the
// choices of the disk, not the order of the operations in one barrier. By default
// only some of the operations are tried, others each time; STORE_ROUNDS=1 tries
// them all, a greater one with as many seeds.

// barrierOrNot takes the barriers from a disk with some seeds.
func barrierOrNot(fsys disk.FS, seed uint64) disk.FS {
	if seed%3 == 0 {
		return noBarrier{fsys}
	}
	return fsys
}

type noBarrier struct{ disk.FS }

func (noBarrier) OpenBarrier(string) (disk.Barrier, error) { return nil, disk.ErrNoBarrier }

// stride is every how many operations are tried.
func stride() int {
	if os.Getenv("STORE_ROUNDS") != "" || os.Getenv("STORE_SEED") != "" {
		return 1
	}
	return 16
}

// seeds returns as many seeds as there are rounds, STORE_ROUNDS times as many
// when that is set, or just STORE_SEED.
func seeds(t *testing.T, rounds int) []uint64 {
	t.Helper()
	if only, err := strconv.ParseUint(os.Getenv("STORE_SEED"), 10, 64); err == nil {
		return []uint64{only}
	}
	if n, err := strconv.Atoi(os.Getenv("STORE_ROUNDS")); err == nil {
		rounds *= n
	}
	first := rand.Uint64() >> 16
	t.Logf("seeds %d to %d; STORE_SEED=N repeats one", first, first+uint64(rounds)-1)
	var list []uint64
	for i := range rounds {
		list = append(list, first+uint64(i))
	}
	return list
}

// kept is a build with all that belongs to it.
type kept struct {
	build  job.Build
	lines  []string
	files  []file // that are added
	offers []file // that are offered and delivered
}

// history is what a store was told, and what it acknowledged.
type history struct {
	pieces    *rand.Rand           // where deliveries are cut
	begun     []kept               // in order
	committed map[uuid.UUID]string // what its record must be
	abandoned map[uuid.UUID]bool   // without an error: there must be no record
	put       map[job.Content]bool
}

func newHistory(seed uint64) *history {
	return &history{pieces: rand.New(rand.NewPCG(seed, 1)), committed: map[uuid.UUID]string{}, abandoned: map[uuid.UUID]bool{}, put: map[job.Content]bool{}}
}

var builds = []kept{
	{buildOf("alpha", 1), []string{"one", "two"}, nil, nil},
	{
		buildOf("alpha", 2),
		[]string{"three"},
		[]file{{"x", "content of x"}, {"script", "#!/bin/sh\n"}, {"y", "yyy"}},
		[]file{{"x too", "content of x"}, {"offered", strings.Repeat("offered", 40)}, {"empty", ""}},
	},
	{buildOf("beta", 3), nil, []file{{"same", "content of x"}, {"z", strings.Repeat("z", 300)}}, manyOffers()},
	{buildOf("beta", 4), []string{"the last"}, nil, nil},
}

// manyOffers are more than are synced one by one.
func manyOffers() []file {
	files := []file{{"same too", "content of x"}, {"again", strings.Repeat("offered", 40)}}
	for n := range 34 {
		files = append(files, file{fmt.Sprint("many/", n), fmt.Sprint("one of many: ", n)})
	}
	return files
}

// unfinished is what a server finds in its journal: builds whose end it did not
// come to note.
func (h *history) unfinished(id uuid.UUID) bool { return h.committed[id] == "" && !h.abandoned[id] }

// live makes the builds. It goes on after errors, as a server does, unless they
// are for ever; the history has no open draft then but that of a process that died.
func (h *history) live(s *store.Store) {
	if c, err := s.Put(strings.NewReader("#!/bin/sh\n")); err == nil {
		h.put[c] = true
	}
	for i, k := range builds {
		d, err := s.Begin(k.build.Job, k.build.UUID)
		if err != nil {
			if d, err = s.Resume(k.build.Job, k.build.UUID); err != nil {
				continue
			}
		}
		h.begun = append(h.begun, k)
		if i == 2 {
			s.Settle() // what does not succeed is done later
		}
		h.finish(d, k, i == 1)
	}
}

// finish commits k, a second time if that fails, or abandons it.
func (h *history) finish(d *store.Draft, k kept, again bool) {
	err := fill(d, k.lines, k.files)
	if err == nil && k.offers != nil {
		err = h.deliver(d, k.offers)
	}
	if err == nil {
		_, err = d.Commit(k.build)
		if err != nil && again {
			_, err = d.Commit(k.build)
		}
	}
	if err == nil {
		h.committed[k.build.UUID] = k.build.Job
		return
	}
	if d.Abandon() == nil {
		h.abandoned[k.build.UUID] = true
	}
}

// deliver offers files and delivers what lacks of them. Some come in pieces, and
// after an error it goes on once, where that is said to be possible.
func (h *history) deliver(d *store.Draft, files []file) error {
	if err := d.Offer(offered(files...)); err != nil {
		if err = d.Offer(offered(files...)); err != nil {
			return err
		}
	}
	data := map[job.Content]string{}
	for _, f := range files {
		data[job.ContentOf([]byte(f.data))] = f.data
	}
	failures := 0
	for {
		wanted := d.Lacking()
		if len(wanted) == 0 {
			return nil
		}
		for _, w := range wanted {
			from, to := int(w.Offset), len(data[w.Content])
			if h.pieces.IntN(4) == 0 {
				to = from + h.pieces.IntN(to-from+1)
			}
			err := deliver(d, data[w.Content], from, to)
			if err == nil || errors.Is(err, errBroken) || errors.Is(err, store.ErrMismatch) {
				continue
			}
			if failures++; failures > 1 {
				return err
			}
		}
	}
}

// check opens a disk and compares it with the history. A build that was not
// acknowledged is there as a whole, or not at all.
func (h *history) check(fsys *disktest.FS, dir string) error {
	s, err := store.Open(fsys, dir, h.unfinished, zerolog.Nop())
	if err != nil {
		return fmt.Errorf("opening what is left: %w", err)
	}
	defer s.Close()
	if err := h.checkTemporaries(fsys, dir); err != nil {
		return err
	}
	for c := range h.put {
		if _, err := read(s.OpenContent(c)); err != nil {
			return fmt.Errorf("a content that was put: %w", err)
		}
	}
	all := map[uuid.UUID]bool{}
	for _, k := range h.begun {
		id := k.build.UUID
		if all[id] = h.committed[id] != ""; all[id] {
			continue // the journal has its end: nobody looks for a record
		}
		if _, all[id], err = s.Recorded(k.build.Job, id); err != nil {
			return err
		}
	}
	list, err := s.List("", 0)
	if err != nil {
		return err
	}
	listed := map[uuid.UUID]bool{}
	for _, b := range list {
		listed[b.UUID] = true
	}
	for _, k := range h.begun {
		id := k.build.UUID
		recorded := all[id]
		switch {
		case recorded != listed[id]:
			return fmt.Errorf("build %v: recorded is %v, listed is %v", id, recorded, listed[id])
		case recorded && h.abandoned[id]:
			return fmt.Errorf("build %v was abandoned and is recorded", id)
		case recorded:
			if err := k.check(s); err != nil {
				return fmt.Errorf("build %v (committed: %v): %w", id, h.committed[id] != "", err)
			}
		}
	}
	return nil
}

// checkTemporaries checks that no more is left of what came than what is of use.
func (h *history) checkTemporaries(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(filepath.Join(dir, "v1/tmp"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if id, err := uuid.Parse(name[:min(36, len(name))]); err != nil || !h.unfinished(id) {
			return fmt.Errorf("%s is left in tmp", name)
		}
	}
	return nil
}

// checkCrashes cuts the power and checks what may be left: once with the index
// that was there, once without, since no other disk goes with it, and once when the
// power has failed again just after the start.
func (h *history) checkCrashes(fsys *disktest.FS, dir string) error {
	if err := h.check(fsys.Crash(), dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	left := fsys.Crash()
	s, err := store.Open(left, dir, h.unfinished, zerolog.Nop())
	if err != nil {
		return err
	}
	if err := s.Die(); err != nil {
		return err
	}
	return h.check(left.Crash(), dir)
}

// check compares what is stored of a build with what it must be.
func (k kept) check(s *store.Store) error {
	b, err := s.Build(k.build.UUID)
	if err != nil {
		return err
	}
	want := k.build
	want.Artifacts = offered(slices.Concat(k.files, k.offers)...)
	if diff := cmp.Diff(want, b); diff != "" {
		return fmt.Errorf("(-want +got):\n%s", diff)
	}
	lines, err := linesOf(s, k.build.UUID, 0)
	if err != nil {
		return err
	}
	if !slices.Equal(text(lines), k.lines) {
		return fmt.Errorf("console %q, want %q", text(lines), k.lines)
	}
	for _, a := range b.Artifacts {
		data, err := read(s.OpenContent(a.Content))
		if err != nil {
			return err
		}
		if sha256.Sum256([]byte(data)) != a.SHA256 {
			return fmt.Errorf("content of %s is not what its hash says", a.Path)
		}
	}
	_, write, err := s.Export(k.build.UUID)
	if err != nil {
		return err
	}
	return write(io.Discard)
}

// scratch is a directory for the index, which is not on the disk that forgets: in
// memory if there is such a place, because SQLite syncs when it begins and ends.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "store-") //nolint:usetesting // t.TempDir does not take a place
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// operations is how many operations a history takes on a disk without faults; by
// how the deliveries are cut some take a few more than others.
func operations(t *testing.T) int {
	t.Helper()
	fsys, dir := disktest.New(1), scratch(t)
	s := open(t, fsys, dir)
	newHistory(1).live(s)
	if fsys.Ops() < 50 {
		t.Fatalf("the history has only %d operations", fsys.Ops())
	}
	return fsys.Ops() * 5 / 4
}

func TestPowerCut(t *testing.T) {
	count := operations(t)
	for _, seed := range seeds(t, 1) {
		for n := 1 + int(seed)%stride(); n <= count+1; n += stride() {
			fsys, dir := disktest.New(seed+uint64(n)), scratch(t)
			fsys.CutAt(n)
			h := newHistory(seed + uint64(n))
			if s, err := store.Open(barrierOrNot(fsys, seed), dir, nil, zerolog.Nop()); err == nil {
				h.live(s)
				s.Close()
			}
			if err := h.checkCrashes(fsys, dir); err != nil {
				t.Fatalf("seed %d, power cut in operation %d: %v", seed, n, err)
			}
		}
	}
}

// TestKill ends the process in every operation, starts it again, finishes what was
// begun as the server does, and then cuts the power.
func TestKill(t *testing.T) {
	count := operations(t)
	for _, seed := range seeds(t, 1) {
		for n := 1 + int(seed)%stride(); n <= count+1; n += stride() {
			fsys, dir := disktest.New(seed+uint64(n)), scratch(t)
			h := newHistory(seed + uint64(n))
			if s, err := store.Open(barrierOrNot(newMortal(fsys, n), seed), dir, nil, zerolog.Nop()); err == nil {
				h.live(s)
				s.Close()
			}
			clear(h.abandoned) // a dead process closes nothing
			if err := h.restart(fsys, dir); err != nil {
				t.Fatalf("seed %d, killed in operation %d: %v", seed, n, err)
			}
			if err := h.checkCrashes(fsys, dir); err != nil {
				t.Fatalf("seed %d, killed in operation %d, then a power cut: %v", seed, n, err)
			}
		}
	}
}

// restart adopts the builds that are recorded and makes the others again.
func (h *history) restart(fsys *disktest.FS, dir string) error {
	s, err := store.Open(fsys, dir, h.unfinished, zerolog.Nop())
	if err != nil {
		return err
	}
	defer s.Close()
	for i, k := range h.begun {
		_, recorded, err := s.Recorded(k.build.Job, k.build.UUID)
		if err != nil {
			return err
		}
		if recorded {
			h.committed[k.build.UUID] = k.build.Job
			continue
		}
		if h.committed[k.build.UUID] != "" {
			return fmt.Errorf("build %v was committed and is lost", k.build.UUID)
		}
		d, err := s.Resume(k.build.Job, k.build.UUID)
		if err != nil {
			return err
		}
		k.lines = k.lines[min(int(d.Console().Lines()), len(k.lines)):]
		for _, f := range k.files {
			// A worker is not asked again for what is there.
			if c := job.ContentOf([]byte(f.data)); s.HasContent(c) {
				err = d.AddStored(f.path, 0o755, c)
			} else {
				err = fill(d, nil, []file{f})
			}
			if err != nil {
				return err
			}
		}
		h.finish(d, kept{build: k.build, lines: k.lines, offers: k.offers}, false)
		if h.committed[k.build.UUID] == "" {
			return fmt.Errorf("build %v could not be made again", h.begun[i].build.UUID)
		}
	}
	return nil
}

func TestFaults(t *testing.T) {
	count := operations(t)
	for _, fault := range []disktest.Fault{
		{Err: syscall.ENOSPC},
		{Err: syscall.EIO},
		{Err: syscall.ENOSPC, Op: disktest.OpWrite},
		{Err: syscall.EIO, Op: disktest.OpSync},
		{Err: syscall.EIO, Op: disktest.OpSyncDir},
		{Err: syscall.EIO, Op: disktest.OpRead},
		{Err: syscall.EIO, Op: disktest.OpBarrier},
	} {
		t.Run(fmt.Sprintf("%v %d", fault.Err, fault.Op), func(t *testing.T) {
			for _, seed := range seeds(t, 1) {
				for fault.N = 1 + int(seed)%stride(); fault.N <= count; fault.N += stride() {
					fsys, dir := disktest.New(seed+uint64(fault.N)), scratch(t)
					fsys.Inject(fault)
					h := newHistory(seed + uint64(fault.N))
					s, err := store.Open(barrierOrNot(fsys, seed), dir, nil, zerolog.Nop())
					if err == nil {
						h.live(s)
						s.Close()
					}
					if fsys.Failed() == 0 {
						break // there are no more operations of that kind
					}
					fsys.Heal()
					if err := h.check(fsys, dir); err != nil {
						t.Fatalf("seed %d, operation %d failed: %v", seed, fault.N, err)
					}
					if err := h.check(fsys.Crash(), dir); err != nil {
						t.Fatalf("seed %d, operation %d failed, then a power cut: %v", seed, fault.N, err)
					}
				}
			}
		})
	}
}

// TestRecorded: a record whose last sync failed is made durable by whoever is told
// of it, and taken back by Abandon.
func TestRecorded(t *testing.T) {
	k := builds[0]
	for _, seed := range seeds(t, 3) {
		for _, abandon := range []bool{false, true} {
			fsys, dir := disktest.New(seed), scratch(t)
			s := open(t, noBarrier{fsys}, dir)          // each file is synced at once
			mustCommit(t, s, builds[1].build, nil, nil) // the job's directory is durable
			d, err := s.Begin(k.build.Job, k.build.UUID)
			if err != nil {
				t.Fatal(err)
			}
			if err := fill(d, k.lines, nil); err != nil {
				t.Fatal(err)
			}
			fsys.Inject(disktest.Fault{Op: disktest.OpSyncDir, N: 2, Err: syscall.EIO})
			if _, err := d.Commit(k.build); !errors.Is(err, syscall.EIO) {
				t.Fatalf("committing: %v", err)
			}
			if abandon {
				if err := d.Abandon(); err != nil {
					t.Fatal(err)
				}
			} else if _, ok, err := s.Recorded(k.build.Job, k.build.UUID); !ok || err != nil {
				t.Fatalf("the record has no name yet: %v", err)
			}
			h := newHistory(seed)
			h.begun = []kept{k}
			h.abandoned[k.build.UUID] = abandon
			if !abandon {
				h.committed[k.build.UUID] = k.build.Job
			}
			s.Close()
			if err := h.check(fsys.Crash(), dir); err != nil {
				t.Fatalf("seed %d, abandoned: %v: %v", seed, abandon, err)
			}
		}
	}
}

// TestDiskFull: when there is room again, the same draft can be committed.
func TestDiskFull(t *testing.T) {
	t.Run("each file synced", func(t *testing.T) {
		testDiskFull(t, func(fsys disk.FS) disk.FS { return noBarrier{fsys} })
	})
	t.Run("write-ahead log", func(t *testing.T) {
		testDiskFull(t, func(fsys disk.FS) disk.FS { return fsys })
	})
}

func testDiskFull(t *testing.T, on func(disk.FS) disk.FS) {
	t.Helper()
	for n := 1; ; n++ {
		fsys, dir := disktest.New(uint64(n)), scratch(t)
		s := open(t, on(fsys), dir)
		h, k := newHistory(uint64(n)), builds[2]
		d, err := s.Begin(k.build.Job, k.build.UUID)
		if err != nil {
			t.Fatal(err)
		}
		if err := fill(d, k.lines, k.files); err != nil {
			t.Fatal(err)
		}
		fsys.Inject(disktest.Fault{Op: disktest.OpWrite, N: n, Err: syscall.ENOSPC})
		h.begun = []kept{k}
		if _, err = d.Commit(k.build); err == nil {
			if n == 1 {
				t.Error("a commit writes nothing")
			}
			return
		}
		if left := slices.Collect(maps.Keys(h.committed)); !errors.Is(err, syscall.ENOSPC) || len(left) > 0 {
			t.Fatalf("commit on a full disk: %v", err)
		}
		if _, err := s.Build(k.build.UUID); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("a build on a full disk: %v", err)
		}
		fsys.Heal()
		h.finish(d, kept{build: k.build, offers: k.offers}, false)
		if len(h.committed) != 1 {
			t.Fatalf("write %d failed: it could not be committed afterwards", n)
		}
		if err := h.check(fsys.Crash(), dir); err != nil {
			t.Fatal(err)
		}
	}
}
