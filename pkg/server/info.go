package server

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/wire"
)

// snapshot is what the state has for people. Its parts are never changed.
type snapshot struct {
	entries   []*schedule.Entry
	platforms []schedule.Platform
	queues    map[string][]*job.Run
	building  []*schedule.Building
	waiting   map[string][]*waiter
}

// snapshot takes as little of the owner's time as it can.
func (s *Server) snapshot(ctx context.Context) (snapshot, error) {
	snap := snapshot{queues: map[string][]*job.Run{}, waiting: map[string][]*waiter{}}
	err := s.owner.look(ctx, func(st *schedule.State) {
		snap.entries = slices.AppendSeq(make([]*schedule.Entry, 0, st.Len()), st.Entries())
		snap.platforms = st.Platforms()
		snap.building = slices.Collect(st.Buildings())
		for _, p := range snap.platforms {
			snap.queues[p.Name] = slices.Collect(st.Queue(p.Name))
			snap.waiting[p.Name] = s.pool.all(p.Name)
		}
	})
	slices.SortFunc(snap.entries, func(a, b *schedule.Entry) int { return cmp.Compare(a.Job.Name, b.Job.Name) })
	slices.SortFunc(snap.building, func(a, b *schedule.Building) int { return a.Started.Compare(b.Started) })
	return snap, err
}

// info answers a client of the reference.
func (c *clientSession) info(ctx context.Context) error {
	snap, err := c.snapshot(ctx)
	if err != nil {
		return err
	}
	var m wire.InfoReply
	for _, e := range snap.entries {
		next := e.Next
		if next.IsZero() {
			next = wire.Never
		}
		m.Schedule = append(m.Schedule, wire.ScheduleItem{
			Next: next, Period: e.Plan.Legacy(), Job: c.shownJob(e.Job, e.Job.Platform),
		})
	}
	for _, p := range snap.platforms {
		if p.Dropped {
			m.Dropped = append(m.Dropped, p.Name)
		}
		queue := wire.PlatformQueue{Platform: p.Name}
		for _, run := range snap.queues[p.Name] {
			queue.Jobs = append(queue.Jobs, c.shownJob(run.Job, p.Name))
		}
		m.Queues = append(m.Queues, queue)
	}
	for _, b := range snap.building {
		m.Running = append(m.Running, wire.RunningJob{
			Started: b.Started, UUID: b.UUID, Job: c.shownJob(b.Run.Job, b.Run.Platform).ScriptJob,
		})
	}
	return c.send(m)
}

// shownJob is legacyJob for people. A script that is missing must not break the
// reply in its middle: there is a comment in its place.
func (s *Server) shownJob(j job.Job, platform string) wire.AnyJob {
	shown := s.legacyJob(j, platform)
	if j.Template == "" && !s.store.HasContent(j.Script) {
		s.Log.Error().Str("job", j.Name).Stringer("content", j.Script).Msg("the script is missing or cut")
		shown.Script = wire.Blob{Data: fmt.Appendf(nil, "# the server has lost this script (content %v)\n", j.Script)}
	}
	return shown
}

// legacyJob is a job as the reference knows it: an orb build, or a script. For
// a job of any other template the script is a comment that says so.
func (s *Server) legacyJob(j job.Job, platform string) wire.AnyJob {
	script := wire.ScriptJob{Name: j.Name, Platform: platform}
	if opamPackage, ok := j.IsOrbBuild(); ok {
		return wire.AnyJob{ScriptJob: script, OrbPackage: &opamPackage}
	}
	if j.Template == "" {
		script.Script = wire.Blob{Size: j.Script.Size, Open: func() (io.ReadCloser, error) { return s.store.OpenContent(j.Script) }}
		return wire.AnyJob{ScriptJob: script}
	}
	text := []string{"# template " + j.Template}
	for _, v := range j.Vars {
		text = append(text, "# "+v.Name+"="+strings.ReplaceAll(v.Value, "\n", "\n# "))
	}
	script.Script.Data = []byte(strings.Join(text, "\n") + "\n")
	return wire.AnyJob{ScriptJob: script}
}

// status answers a client of ours.
func (c *clientSession) status(ctx context.Context) error {
	snap, err := c.snapshot(ctx)
	if err != nil {
		return err
	}
	var m wire.StatusReply
	for _, e := range snap.entries {
		m.Jobs = append(m.Jobs, wire.JobStatus{Job: e.Job, Plan: e.Plan, Next: e.Next})
	}
	for _, b := range snap.building {
		m.Building = append(m.Building, buildStatus(b))
	}
	for _, p := range snap.platforms {
		ps := wire.PlatformStatus{Name: p.Name, Dropped: p.Dropped}
		for _, run := range snap.queues[p.Name] {
			ps.Queue = append(ps.Queue, *run)
		}
		for _, w := range snap.waiting[p.Name] {
			ps.Workers = append(ps.Workers, wire.WorkerStatus{Name: w.worker, Address: w.address, Since: w.since})
		}
		for _, b := range m.Building {
			if b.Platform == p.Name {
				ps.Workers = append(ps.Workers, wire.WorkerStatus{Name: b.Worker, Build: b.UUID})
			}
		}
		m.Platforms = append(m.Platforms, ps)
	}
	return c.send(m)
}
