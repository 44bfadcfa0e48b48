package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/retention"
	"builder/pkg/store"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// crowd is what several goroutines were told of the builds that they made, all beside
// each other.
type crowd struct {
	s *store.Store

	mu        sync.Mutex
	begun     map[int]kept // and never acknowledged
	committed map[int]kept
	pinned    map[int]bool // acknowledged, and not taken back since
	removed   map[int]bool // or perhaps so
	gone      map[int]bool // durably
}

// build makes builds until the disk refuses one.
func (c *crowd) build(first, count int, rng *rand.Rand) {
	for n := first; n < first+count; n++ {
		k := kept{build: buildOf(fmt.Sprint("job", n%3), n), lines: []string{fmt.Sprint("line of ", n)}}
		if rng.IntN(4) == 0 {
			k.lines = append(k.lines, strings.Repeat("x", 17<<10))
		}
		if rng.IntN(2) == 0 {
			k.files = []file{{"a", fmt.Sprint("content ", n/2)}}
		}
		d, err := c.s.Begin(k.build.Job, k.build.UUID)
		if err != nil {
			continue
		}
		c.note(func() { c.begun[n] = k })
		if fill(d, k.lines, k.files) == nil {
			_, err = d.Commit(k.build)
			if err != nil {
				_, err = d.Commit(k.build)
			}
			if err == nil {
				c.note(func() {
					c.committed[n] = k
					delete(c.begun, n)
				})
			}
		}
		d.Abandon() // it is unfinished then
		if err == nil && rng.IntN(3) == 0 && c.s.Pin(number(n)) == nil {
			c.note(func() { c.pinned[n] = true })
		}
	}
}

func (c *crowd) note(what func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what()
}

// prune removes every third build, and the artifacts of others.
func (c *crowd) prune() {
	done, err := c.s.Prune(context.Background(), false, func(builds []retention.Build) (d store.Decision, _ error) {
		for _, b := range builds {
			n := numberOf(b.UUID)
			if n%3 == 0 && !b.Pinned {
				c.note(func() { c.removed[n] = true })
				d.Verdicts = append(d.Verdicts, retention.Verdict{Build: b, Fate: retention.Remove})
			}
			if n%3 == 1 && !b.Pruned && !b.Pinned && b.Artifacts > 0 {
				d.Verdicts = append(d.Verdicts, retention.Verdict{Build: b, Fate: retention.Strip})
			}
		}
		return d, nil
	})
	for _, v := range done.Builds {
		if v.Fate == retention.Remove && err == nil {
			c.note(func() { c.gone[numberOf(v.UUID)] = true })
		}
	}
}

func numberOf(id uuid.UUID) int {
	for n := range 10_000 {
		if number(n) == id {
			return n
		}
	}
	return -1
}

// goOn is the next process: it ends the builds that were left running, as a server does.
func (c *crowd) goOn(fsys *disktest.FS, dir string) error {
	unfinished := func(id uuid.UUID) bool {
		_, ok := c.begun[numberOf(id)]
		return ok
	}
	s, err := store.Open(fsys, dir, unfinished, zerolog.Nop())
	if err != nil {
		return err
	}
	for n, k := range c.begun {
		_, ended, err := s.Recorded(k.build.Job, k.build.UUID)
		if err != nil {
			return err
		}
		if !ended {
			d, err := s.Resume(k.build.Job, k.build.UUID)
			if err != nil {
				return err
			}
			k.build.Result, k.files = job.Failure(job.WorkerLost, "lost"), nil
			if _, err := d.Commit(k.build); err != nil {
				return err
			}
			lines, err := linesOf(s, k.build.UUID, 0)
			if err != nil {
				return err
			}
			k.lines = text(lines)
		}
		c.committed[n] = k
	}
	clear(c.begun)
	return s.Die()
}

// check looks at what is left of a disk.
func (c *crowd) check(fsys *disktest.FS, dir string) error {
	var damaged []store.Damage
	_, err := store.Verify(context.Background(), fsys, dir, store.VerifyOptions{
		Schedule: func() (store.Scheduled, error) {
			return store.Scheduled{Building: func(id uuid.UUID) bool { _, ok := c.committed[numberOf(id)]; return !ok }}, nil
		},
		Report: func(d store.Damage) { damaged = append(damaged, d) },
	})
	if err != nil || len(damaged) > 0 {
		return fmt.Errorf("verified: %+v, %v", damaged, err)
	}
	s, err := store.Open(fsys, dir, nil, zerolog.Nop())
	if err != nil {
		return err
	}
	defer s.Die()
	for n, k := range c.committed {
		_, err := s.Build(number(n))
		marks, merr := s.Marks(k.build.Job, number(n))
		switch {
		case merr != nil:
			return merr
		case c.gone[n] && !errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("build %d came back: %v", n, err)
		case c.removed[n] && errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return fmt.Errorf("build %d: %w", n, err)
		case c.pinned[n] && !marks.Pinned:
			return fmt.Errorf("build %d is not pinned any more", n)
		case marks.Pruned:
			continue
		}
		if err := k.check(s); err != nil {
			return fmt.Errorf("build %d: %w", n, err)
		}
	}
	return nil
}

// TestBesidePowerCut has everything happen at once, on a disk that fails now and then,
// until the power does.
func TestBesidePowerCut(t *testing.T) {
	for _, seed := range seeds(t, 20) {
		fsys, dir := disktest.New(seed), scratch(t)
		rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
		s := open(t, &beforeBarrier{FS: fsys, do: func() {
			for range 500 {
				runtime.Gosched() // it takes its time
			}
		}}, dir)
		c := &crowd{s: s, begun: map[int]kept{}, committed: map[int]kept{}, pinned: map[int]bool{}, removed: map[int]bool{}, gone: map[int]bool{}}
		for _, op := range []disktest.Op{disktest.OpBarrier, disktest.OpSync, disktest.OpSyncDir, disktest.OpTruncate, disktest.OpWrite} {
			for range rng.IntN(2) {
				fsys.Inject(disktest.Fault{Op: op, N: 1 + rng.IntN(100), Err: []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)]})
			}
		}
		fsys.CutAt(20 + rng.IntN(1200))
		var group sync.WaitGroup
		for g := range 4 {
			own := rand.New(rand.NewPCG(seed, uint64(g)+2)) //nolint:gosec // to be repeated
			group.Go(func() { c.build(1+g*30, 30, own) })
		}
		group.Go(func() {
			for range 20 {
				s.Settle() // what does not succeed is done later
			}
		})
		group.Go(func() {
			for range 4 {
				c.prune()
			}
		})
		group.Wait()
		if err := s.Die(); err != nil && !errors.Is(err, disktest.ErrPowerCut) {
			t.Log(err)
		}
		left := fsys.Crash()
		if seed%2 == 0 {
			if err := c.goOn(left, dir); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			left = left.Crash()
		}
		for range 2 {
			if err := c.check(left, dir); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			left = left.Crash()
		}
	}
}
