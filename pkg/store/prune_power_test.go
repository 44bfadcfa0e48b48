package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/job"
	"builder/pkg/retention"
	"builder/pkg/store"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// These tests run one Prune on a disk that forgets, while builds end that have
// contents of those that go, and stop it in every operation.

const scheduled = "#!/bin/sh\nscheduled\n"

// before are the builds that a Prune finds, by their number.
var before = map[int]kept{
	1: {build: buildOf("alpha", 1), lines: []string{"one"}, files: []file{{"a", "only in 1"}, {"b", "in 1 and 2"}, {"t", "too in 1"}}},
	2: {build: buildOf("alpha", 2), lines: []string{"two"}, files: []file{{"a", "only in 2"}, {"b", "in 1 and 2"}, {"c", "in 2 and 3"}, {"z", "alone in 2"}}},
	3: {build: withScript(buildOf("alpha", 3), "script of 3"), lines: []string{"three"}, files: []file{{"a", "only in 3"}, {"c", "in 2 and 3"}, {"d", "in 3 and 4"}}},
	4: {build: buildOf("beta", 4), lines: []string{"four"}, files: []file{{"a", "only in 4"}, {"d", "in 3 and 4"}}},
	5: {build: buildOf("beta", 5), lines: []string{"five"}, files: []file{{"a", "only in 5"}}},
}

func withScript(b job.Build, text string) job.Build {
	b.Script = job.ContentOf([]byte(text))
	return b
}

// during are those that end while it runs: all that they have is, at first, there.
var during = map[int]kept{
	6: {build: buildOf("beta", 6), offers: []file{{"a", "only in 1"}, {"d", "only in 4"}}},
	7: {build: buildOf("gamma", 7), lines: []string{"seven"}, offers: []file{{"a", "only in 2"}, {"n", "new in 7"}}},
	8: {build: buildOf("gamma", 8), files: []file{{"a", "in 1 and 2"}, {"n", "new in 8"}}},
	9: {build: buildOf("gamma", 9), offers: []file{{"a", "too in 1"}}},
}

// fates are what the Prune is told: 5 is pinned, whatever it says.
var fates = map[int]retention.Fate{1: retention.Remove, 2: retention.Strip, 4: retention.Remove, 5: retention.Remove}

// purge is one Prune and what came of it.
type purge struct {
	*history
	done bool // it said that it did all
	// killed: the one that made the mark was. It is durable only if it has to be: if
	// a content went that only this build named.
	killed bool
}

func newPurge(seed uint64) *purge {
	p := &purge{history: newHistory(seed)}
	for _, k := range before {
		p.committed[k.build.UUID] = k.build.Job
	}
	return p
}

// prepare makes what a Prune finds, durably.
func prepare(t *testing.T, fsys disk.FS, dir string) {
	t.Helper()
	s := open(t, fsys, dir)
	for n := 1; n <= len(before); n++ {
		mustCommit(t, s, before[n].build, before[n].lines, before[n].files)
	}
	for _, script := range []string{scheduled, "script of 3", "an orphan"} {
		if _, err := s.Put(strings.NewReader(script)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Pin(number(5)); err != nil {
		t.Fatal(err)
	}
	if err := s.Die(); err != nil { // what goes is in the log
		t.Fatal(err)
	}
}

// decide is what the server would decide.
func decide(builds []retention.Build) (store.Decision, error) {
	d := store.Decision{Needed: []job.Content{job.ContentOf([]byte(scheduled))}}
	for _, b := range builds {
		for n, fate := range fates {
			if b.UUID == number(n) && (fate == retention.Remove || !b.Pruned) {
				d.Verdicts = append(d.Verdicts, retention.Verdict{Build: b, Fate: fate})
			}
		}
	}
	return d, nil
}

// live is one Prune with builds that begin before and while it runs.
func (p *purge) live(s *store.Store) {
	early, lasting := p.start(s, 6), p.start(s, 9)
	defer p.end(lasting, during[9])
	_, err := s.Prune(context.Background(), false, func(builds []retention.Build) (store.Decision, error) {
		late := p.start(s, 7)
		p.end(early, during[6])
		_, release, err := s.PutHeld(strings.NewReader("an orphan"))
		if err == nil {
			release() // as if an event named it that is not known to this Prune
			p.put[job.ContentOf([]byte("an orphan"))] = true
		}
		if d := p.start(s, 8); d != nil {
			p.finish(d, during[8], false)
		}
		defer p.end(late, during[7])
		return decide(builds)
	})
	p.done = err == nil
}

// start begins a build and offers what it has.
func (p *purge) start(s *store.Store, n int) *store.Draft {
	k := during[n]
	d, err := s.Begin(k.build.Job, k.build.UUID)
	if err != nil {
		return nil
	}
	p.begun = append(p.begun, k)
	if d.Offer(offered(k.offers...)) != nil {
		return nil // as if the process hung
	}
	return d
}

func (p *purge) end(d *store.Draft, k kept) {
	if d != nil {
		p.finish(d, k, false) // which offers again: what was there must be there still
	}
}

// check looks at what is left, and again when the next Prune has done the rest.
func (p *purge) check(fsys *disktest.FS, dir string) error {
	if err := p.history.check(fsys, dir); err != nil {
		return err
	}
	s, err := store.Open(fsys, dir, p.unfinished, zerolog.Nop())
	if err != nil {
		return err
	}
	defer s.Close()
	if err := p.checkBefore(s, p.done); err != nil {
		return err
	}
	for _, k := range p.begun {
		if _, ended, err := s.Recorded(k.build.Job, k.build.UUID); ended || err != nil {
			continue
		}
		d, err := s.Resume(k.build.Job, k.build.UUID) // as the server does
		if err != nil {
			return err
		}
		defer d.Suspend()
	}
	if _, err := s.Prune(context.Background(), false, decide); err != nil {
		return fmt.Errorf("the next prune: %w", err)
	}
	if err := p.checkBefore(s, true); err != nil {
		return fmt.Errorf("after the next prune: %w", err)
	}
	return p.checkContents(s, fsys, dir)
}

// checkBefore checks the builds that were there: those that stay are whole, those that
// go are whole or gone, or have the mark; with done they are not whole.
func (p *purge) checkBefore(s *store.Store, done bool) error {
	for n, k := range before {
		id := k.build.UUID
		_, err := s.Build(id)
		there := err == nil
		marks, err := s.Marks(k.build.Job, id)
		if err != nil {
			return err
		}
		fate := fates[n]
		if n == 5 {
			fate = 0
		}
		switch {
		case marks.Pruned && fate != retention.Strip, !there && fate != retention.Remove:
			return fmt.Errorf("build %d is gone, or pruned: %+v", n, marks)
		case done && (fate == retention.Strip && !marks.Pruned && !p.killed || fate == retention.Remove && there):
			return fmt.Errorf("build %d is still there", n)
		case marks.Pruned:
			if err := k.checkPruned(s); err != nil {
				return err
			}
		case there:
			if err := k.check(s); err != nil {
				return fmt.Errorf("build %d: %w", n, err)
			}
		}
	}
	_, err := read(s.OpenContent(job.ContentOf([]byte(scheduled))))
	return err
}

// checkPruned: of a build that was pruned record and console are there.
func (k kept) checkPruned(s *store.Store) error {
	lines, err := linesOf(s, k.build.UUID, 0)
	if err != nil {
		return err
	}
	if !slices.Equal(text(lines), k.lines) {
		return fmt.Errorf("console %q, want %q", text(lines), k.lines)
	}
	var pruned *store.PrunedError
	if _, _, err := s.OpenArtifact(k.build.UUID, "a"); !errors.As(err, &pruned) {
		return fmt.Errorf("opening what was pruned: %w", err)
	}
	if _, _, err := s.Export(k.build.UUID); !errors.As(err, &pruned) {
		return fmt.Errorf("exporting what was pruned: %w", err)
	}
	return nil
}

// checkContents checks that there are those contents that something names, and no
// half of a build.
func (p *purge) checkContents(s *store.Store, fsys disk.FS, dir string) error {
	want := map[string]bool{job.ContentOf([]byte(scheduled)).String(): true, before[3].build.Script.String(): true}
	list, err := s.List("", 0)
	if err != nil {
		return err
	}
	for _, listed := range list {
		b, err := s.Build(listed.UUID)
		if err != nil {
			return err
		}
		for _, a := range b.Artifacts {
			if b.UUID != number(2) {
				want[a.String()] = true
			}
		}
	}
	prefixes, err := fsys.ReadDir(filepath.Join(dir, "v1/content"))
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		names, err := fsys.ReadDir(filepath.Join(dir, "v1/content", prefix.Name()))
		if err != nil {
			return err
		}
		for _, name := range names {
			if !want[name.Name()] {
				return fmt.Errorf("content %s is left, which nothing names", name.Name())
			}
		}
	}
	for _, jobName := range []string{"alpha", "beta"} {
		entries, err := fsys.ReadDir(filepath.Join(dir, "v1/builds", jobName))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if _, err := uuid.Parse(entry.Name()); err != nil {
				return fmt.Errorf("%s is left", entry.Name())
			}
		}
	}
	return nil
}

func (p *purge) checkCrashes(fsys *disktest.FS, dir string) error {
	for range 2 {
		// The next Prune, of check, removes what this one was held from.
		put := p.put
		if err := p.check(fsys.Crash(), dir); err != nil {
			return err
		}
		p.put = put
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// purgeOperations is how many operations the Prune and what happens beside it take.
func purgeOperations(t *testing.T) int {
	t.Helper()
	fsys, dir := disktest.New(1), scratch(t)
	prepare(t, fsys, dir)
	first := fsys.Ops()
	s := open(t, fsys, dir)
	p := newPurge(1)
	p.live(s)
	if !p.done || len(p.committed) != len(before)+len(during) {
		t.Fatalf("without faults it is done: %v, committed are %v", p.done, p.committed)
	}
	if err := p.checkBefore(s, true); err != nil {
		t.Fatal(err)
	}
	return (fsys.Ops() - first) * 5 / 4
}

func TestPrunePowerCut(t *testing.T) {
	count := purgeOperations(t)
	for _, seed := range seeds(t, 1) {
		for n := 1 + int(seed)%stride(); n <= count+1; n += stride() {
			fsys, dir := disktest.New(seed+uint64(n)), scratch(t)
			prepare(t, fsys, dir)
			fsys.CutAt(n)
			p := newPurge(seed + uint64(n))
			if s, err := store.Open(barrierOrNot(fsys, seed), dir, nil, zerolog.Nop()); err == nil {
				p.live(s)
				s.Close()
			}
			if err := p.checkCrashes(fsys, dir); err != nil {
				t.Fatalf("seed %d, power cut in operation %d: %v", seed, n, err)
			}
		}
	}
}

// TestPruneKill ends the process in every operation, has the next one prune, and then
// cuts the power, in that or after it.
func TestPruneKill(t *testing.T) {
	count := purgeOperations(t)
	for _, seed := range seeds(t, 1) {
		for n := 1 + int(seed)%stride(); n <= count+1; n += stride() {
			fsys, dir := disktest.New(seed+uint64(n)), scratch(t)
			prepare(t, fsys, dir)
			p := newPurge(seed + uint64(n))
			if s, err := store.Open(newMortal(fsys, n), dir, nil, zerolog.Nop()); err == nil {
				p.live(s)
				s.Close()
			}
			clear(p.abandoned) // a dead process closes nothing
			p.done = false     // and reads nothing: it took what it did not see for damaged
			if err := p.restart(fsys, dir); err != nil {
				t.Fatalf("seed %d, killed in operation %d: %v", seed, n, err)
			}
			if seed%2 == 0 {
				fsys.CutAt(1 + n%29)
			}
			if s, err := store.Open(fsys, dir, nil, zerolog.Nop()); err == nil {
				_, err := s.Prune(context.Background(), false, decide)
				p.done, p.killed = err == nil, true
				clear(p.put) // nothing names it, and nobody holds it
				s.Close()
			}
			if err := p.checkCrashes(fsys, dir); err != nil {
				t.Fatalf("seed %d, killed in operation %d, then a power cut: %v", seed, n, err)
			}
		}
	}
}

// TestPinPowerCut: a mark that was acknowledged is there for good, also when it was
// made before by one that was killed.
func TestPinPowerCut(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		for n := 8; n < 14; n++ {
			fsys, dir := disktest.New(seed+uint64(n)), scratch(t)
			prepare(t, fsys, dir)
			if first, err := store.Open(newMortal(fsys, n), dir, nil, zerolog.Nop()); err == nil {
				first.Pin(number(1)) // it is killed, perhaps
				first.Unpin(number(5))
				first.Close()
			}
			s := open(t, fsys, dir)
			for id, change := range map[uuid.UUID]func(uuid.UUID) error{number(1): s.Pin, number(5): s.Unpin} {
				if err := change(id); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			s = open(t, fsys.Crash(), dir)
			for n, want := range map[int]store.Marks{1: {Pinned: true}, 5: {}} {
				if got, err := s.Marks(before[n].build.Job, number(n)); got != want || err != nil {
					t.Errorf("seed %d: marks of build %d: %+v, %v, want %+v", seed, n, got, err, want)
				}
			}
		}
	}
}

// TestPruneMarkOfTheDead: of a build whose mark was made by a process that was killed
// no content goes before the mark is durable.
func TestPruneMarkOfTheDead(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		fsys, dir := disktest.New(seed), scratch(t)
		prepare(t, fsys, dir)
		mark, err := fsys.OpenFile(filepath.Join(dir, "v1/builds/alpha", number(2).String(), "pruned"), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		mark.Close()
		s := open(t, fsys, dir)
		if _, err := s.Prune(t.Context(), false, decide); err != nil {
			t.Fatal(err)
		}
		if _, err := read(s.OpenContent(job.ContentOf([]byte("alone in 2")))); err == nil {
			t.Fatal("the content is still there")
		}
		s.Close()
		for range 30 {
			if err := newPurge(seed).checkBefore(open(t, fsys.Crash(), dir), true); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}
