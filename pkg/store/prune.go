package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"builder/pkg/job"
	"builder/pkg/retention"

	"github.com/google/uuid"
)

// Decision is what a Prune is told, once it knows all builds.
type Decision struct {
	Verdicts []retention.Verdict
	// Needed are contents that something outside of the store names: the scripts of
	// the schedule, of what is queued and of what runs.
	Needed []job.Content
}

// Pruned is what a Prune has done, or would do.
type Pruned struct {
	Builds []retention.Verdict // those that went, or whose artifacts did
	// Freed is how many octets of the disk only they needed.
	Freed int64
	// Orphans are contents that nothing named before, OrphanOctets how many octets
	// they had.
	Orphans      int
	OrphanOctets int64
	// Damaged is how many records can not be read. What they name nobody knows, so
	// then no content is removed, and those that would have been do not count.
	Damaged int
}

// Prune removes what retention decides on, and contents that nothing needs; with dry
// it only tells what it would. It goes by what lies on the disk.
//
// The builds that decide is given have ended before it is called. So it looks at
// the schedule after them: a build that it is given and that the schedule still runs
// or has to deliver is seen there. Builds that are pinned meanwhile stay, whatever it
// says. Builds that end, and contents that are found or come, while Prune runs, lose
// nothing. Builds whose record is damaged stay.
//
// A build that goes is renamed, and that is durable, before anything of it is
// removed. A build whose artifacts go is marked so, and that is durable, before any
// content is removed. So whatever ends a Prune leaves each build whole, or gone, or
// marked; the next one finishes the rest. On an error, what Pruned tells did happen
// to the builds, the rest may not.
func (s *Store) Prune(ctx context.Context, dry bool, decide func([]retention.Build) (Decision, error)) (Pruned, error) {
	s.pruning.Lock()
	defer s.pruning.Unlock()
	s.use.beginSweep()
	defer s.use.endSweep()
	v, err := s.survey(ctx)
	if err != nil {
		return Pruned{}, err
	}
	decision, err := decide(v.builds)
	if err != nil {
		return Pruned{}, err
	}
	p := &pruning{Store: s, found: v, dry: dry, fates: map[uuid.UUID]retention.Fate{}}
	p.done.Damaged = v.damaged
	kept := p.settle(decision.Verdicts)
	if err := p.removeBuilds(ctx, decision.Verdicts); err != nil {
		return p.done, fmt.Errorf("removing builds: %w", errors.Join(kept, err))
	}
	if err := p.sweepContents(ctx, decision.Needed); err != nil {
		return p.done, fmt.Errorf("removing contents: %w", err)
	}
	if !dry {
		if err := p.removeLeftovers(ctx); err != nil {
			return p.done, fmt.Errorf("removing what is left of builds: %w", err)
		}
	}
	if kept != nil {
		return p.done, fmt.Errorf("builds that ended lately stay for now: %w", kept)
	}
	return p.done, nil
}

// pruning is one Prune.
type pruning struct {
	*Store
	found *survey
	dry   bool
	done  Pruned
	// fates are what became of builds in this Prune.
	fates map[uuid.UUID]retention.Fate
}

// settle lets the log forget the builds that go: those in it come back at the next
// start, without their marks. Those that it can not forget stay; the error says why.
func (p *pruning) settle(verdicts []retention.Verdict) error {
	if p.dry || !slices.ContainsFunc(verdicts, p.logged) {
		return nil
	}
	return p.ahead.settle()
}

func (p *pruning) logged(v retention.Verdict) bool { return p.ahead.has(v.UUID) }

// removeBuilds does to each build what was decided: after it, no build that goes is
// one any more, durably. Marks are not durable yet.
func (p *pruning) removeBuilds(ctx context.Context, verdicts []retention.Verdict) error {
	var removed []uuid.UUID
	err := func() error {
		for _, verdict := range verdicts {
			if err := ctx.Err(); err != nil {
				return err
			}
			about, known := p.found.about[verdict.UUID]
			if !known || !p.dry && p.logged(verdict) {
				continue
			}
			did, err := p.carryOut(verdict, p.dir(about.place))
			if err != nil {
				return err
			}
			if !did {
				continue // it was pinned in this moment
			}
			p.fates[verdict.UUID] = verdict.Fate
			p.done.Builds = append(p.done.Builds, verdict)
			if verdict.Fate == retention.Remove {
				p.done.Freed += about.files
				removed = append(removed, verdict.UUID)
			}
		}
		return nil
	}()
	if p.dry {
		return err
	}
	parents := map[string]bool{}
	for _, dir := range p.found.gone {
		parents[filepath.Dir(dir)] = true
	}
	for dir := range parents {
		err = errors.Join(err, p.fsys.SyncDir(dir))
	}
	// Also after an error: those that were renamed are not found any more.
	return errors.Join(err, p.unlist(removed))
}

// unlist takes builds that are gone out of the index, with those that it did not let
// go before.
func (p *pruning) unlist(removed []uuid.UUID) error {
	p.listed = append(p.listed, removed...)
	err := p.index.flush()
	if err == nil {
		err = p.index.remove(p.listed)
	}
	if err == nil {
		p.listed = nil
	}
	return err
}

func (p *pruning) carryOut(v retention.Verdict, dir string) (bool, error) {
	if p.dry {
		return true, nil
	}
	return p.unlessPinned(dir, func() error {
		if v.Fate == retention.Strip {
			return p.touch(filepath.Join(dir, prunedFile))
		}
		// Said before: of what is gone nothing else tells.
		p.log.Info().Str("job", v.Job).Stringer("build", v.UUID).Str("reason", string(v.Bound)).Msg("build removed")
		err := p.fsys.Rename(dir, dir+goneSuffix)
		if err == nil {
			p.found.gone = append(p.found.gone, dir+goneSuffix)
		}
		return err
	})
}

// removeLeftovers removes what is left of builds that are gone, and what was received for
// builds that are not made any more. It need not be durable.
func (p *pruning) removeLeftovers(ctx context.Context) error {
	for _, dir := range p.found.gone {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := p.fsys.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := p.fsys.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
		if err := p.fsys.Remove(dir); err != nil {
			return err
		}
	}
	entries, err := p.fsys.ReadDir(p.temporaries)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id, ok := deliveryOf(entry.Name())
		if !ok || p.use.drafting(id) {
			continue
		}
		err := p.fsys.Remove(filepath.Join(p.temporaries, entry.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
