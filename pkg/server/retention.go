package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
	"builder/pkg/retention"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// pruneInterval is the time between two prunes that nobody asked for.
const pruneInterval = time.Hour

// keepPruning prunes at once and then now and again, until ctx is done.
func (s *Server) keepPruning(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if _, err := s.prune(ctx, "", false); err != nil && ctx.Err() == nil {
			s.Log.Error().Err(err).Msg("pruning builds")
		}
		timer.Reset(pruneInterval)
	}
}

// prune removes what retention says, of one job or of all; with dry it only tells.
func (s *Server) prune(ctx context.Context, name string, dry bool) (store.Pruned, error) {
	began := time.Now()
	pruned, err := s.store.Prune(ctx, dry, func(builds []retention.Build) (store.Decision, error) {
		return s.decidePrune(ctx, name, builds)
	})
	if !dry && (len(pruned.Builds) > 0 || pruned.Orphans > 0) {
		s.Log.Info().Int("builds", len(pruned.Builds)).Int64("bytes", pruned.Freed+pruned.OrphanOctets).
			Int("orphans", pruned.Orphans).Dur("dur", time.Since(began)).Msg("pruned")
	}
	if pruned.Damaged > 0 {
		s.Log.Error().Int("records", pruned.Damaged).Msg("no contents are removed, since nobody knows what the damaged records name")
	}
	return pruned, err
}

// decidePrune looks at the schedule after the builds were read: what runs then, or
// waits for its upload, is needed, whatever becomes of it meanwhile.
func (s *Server) decidePrune(ctx context.Context, name string, builds []retention.Build) (store.Decision, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return store.Decision{}, err
	}
	needed := map[uuid.UUID]bool{}
	// After what runs: a build that ended between the two is in one of them.
	err = s.owner.look(ctx, func(st *schedule.State) {
		for p := range st.Outbox() {
			needed[p.UUID] = true
		}
	})
	if err != nil {
		return store.Decision{}, err
	}
	var decision store.Decision
	own := map[string]job.Retention{}
	for _, e := range snap.entries {
		own[e.Job.Name] = e.Job.Retention
		decision.Needed = append(decision.Needed, e.Job.Script)
	}
	for _, queue := range snap.queues {
		for _, run := range queue {
			decision.Needed = append(decision.Needed, run.Job.Script)
		}
	}
	for _, b := range snap.building {
		needed[b.UUID] = true
		decision.Needed = append(decision.Needed, b.Script())
	}
	policy := retention.Policy{
		Default: s.Retention, Own: func(name string) job.Retention { return own[name] },
		Needed: func(id uuid.UUID) bool { return needed[id] }, Job: name,
	}
	if len(s.Uploads) > 0 {
		policy.UploadedDays = s.UploadedDays
	}
	if _, scheduled := own[name]; name != "" && !scheduled && !anyOf(builds, name) {
		return store.Decision{}, fmt.Errorf("no job is called %q, and no build is of one", name)
	}
	decision.Verdicts = policy.Decide(time.Now(), builds)
	return decision, nil
}

// anyOf reports whether there is a build of that job.
func anyOf(builds []retention.Build, name string) bool {
	for _, b := range builds {
		if b.Job == name {
			return true
		}
	}
	return false
}

// pruneAsked answers a client of ours, when all is done.
func (c *clientSession) pruneAsked(ctx context.Context, m wire.Prune) error {
	pruned, err := c.prune(ctx, m.Job, m.Dry)
	if err != nil {
		return err
	}
	done, err := c.replies.take(ctx, int64(len(pruned.Builds))*listed)
	if err != nil {
		return err
	}
	defer done()
	reply := wire.PruneReply{
		Freed: pruned.Freed, Orphans: int64(pruned.Orphans), OrphanOctets: pruned.OrphanOctets, Damaged: int64(pruned.Damaged),
	}
	for _, v := range pruned.Builds {
		reply.Builds = append(reply.Builds, wire.PrunedBuild{
			UUID: v.UUID, Job: v.Job, Platform: v.Platform, Finished: v.Finished,
			ArtifactsOnly: v.Fate == retention.Strip, Bound: string(v.Bound), Octets: v.Octets,
		})
	}
	return c.send(reply)
}

// pin keeps a build, or lets it go again.
func (c *clientSession) pin(m wire.Pin) error {
	id, err := c.store.Resolve(m.What)
	if errors.Is(err, store.ErrNotFound) && len(c.building.begunWith(m.What)) > 0 {
		return fmt.Errorf("build %s runs: it can be pinned when it has ended", m.What)
	}
	if err != nil {
		return err
	}
	change := c.store.Pin
	if m.Unpin {
		change = c.store.Unpin
	}
	if err := change(id); err != nil {
		return err
	}
	return c.send(wire.Pinned{UUID: id})
}

// marks are what is said about builds beside their records.
func (s *Server) marks(builds []job.Build) ([]wire.BuildMark, error) {
	var marks []wire.BuildMark
	for _, b := range builds {
		m, err := s.store.Marks(b.Job, b.UUID)
		if err != nil {
			return nil, err
		}
		if m.Pinned || m.Pruned {
			marks = append(marks, wire.BuildMark{UUID: b.UUID, Pinned: m.Pinned, Pruned: m.Pruned, At: m.PrunedAt})
		}
	}
	return marks, nil
}
