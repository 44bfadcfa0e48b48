package server

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

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
	posts     map[string]*wire.RemoteStatus
	paused    string // why no builds are handed out
}

// snapshot takes as little of the owner's time as it can.
func (s *Server) snapshot(ctx context.Context) (snapshot, error) {
	snap := snapshot{queues: map[string][]*job.Run{}, waiting: map[string][]*waiter{}}
	err := s.owner.look(ctx, func(st *schedule.State) {
		snap.entries = slices.AppendSeq(make([]*schedule.Entry, 0, st.Len()), st.Entries())
		snap.platforms = st.Platforms()
		snap.building = slices.Collect(st.Buildings())
		snap.posts = countPosts(st)
		snap.paused = s.owner.reserve.check(time.Now())
		for _, p := range snap.platforms {
			snap.queues[p.Name] = slices.Collect(st.Queue(p.Name))
			snap.waiting[p.Name] = s.pool.all(p.Name)
		}
	})
	slices.SortFunc(snap.entries, func(a, b *schedule.Entry) int { return cmp.Compare(a.Job.Name, b.Job.Name) })
	slices.SortFunc(snap.building, func(a, b *schedule.Building) int { return a.Started.Compare(b.Started) })
	return snap, err
}

// lasting is a snapshot that may be held for as long as a client takes to be
// answered, until done is called. It costs a pointer for each job and run: they
// are encoded one after the other.
func (c *clientSession) lasting(ctx context.Context) (snap snapshot, done func(), err error) {
	const pointer = 8
	things := 0
	err = c.owner.look(ctx, func(st *schedule.State) {
		things = st.Len()
		for _, p := range st.Platforms() {
			things += p.Queued
		}
	})
	if err != nil {
		return snap, nil, err
	}
	if done, err = c.replies.take(ctx, int64(things)*pointer); err != nil {
		return snap, nil, err
	}
	if snap, err = c.snapshot(ctx); err != nil {
		done()
	}
	return snap, done, err
}

// info answers a client of the reference.
func (c *clientSession) info(ctx context.Context) error {
	snap, done, err := c.lasting(ctx)
	if err != nil {
		return err
	}
	defer done()
	m := wire.InfoSource{Schedule: each(snap.entries, func(e *schedule.Entry) wire.ScheduleItem {
		next := e.Next
		if next.IsZero() {
			next = wire.Never
		}
		return wire.ScheduleItem{Next: next, Period: e.Plan.Legacy(), Job: c.shownJob(e.Job, e.Job.Platform)}
	})}
	for _, p := range snap.platforms {
		if p.Dropped {
			m.Dropped = append(m.Dropped, p.Name)
		}
		m.Queues = append(m.Queues, wire.QueueSource{
			Platform: p.Name,
			Jobs:     each(snap.queues[p.Name], func(run *job.Run) wire.AnyJob { return c.shownJob(run.Job, p.Name) }),
		})
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

// each yields what f makes of all in turn.
func each[From, To any](all []From, f func(From) To) iter.Seq[To] {
	return func(yield func(To) bool) {
		for _, one := range all {
			if !yield(f(one)) {
				return
			}
		}
	}
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
	snap, done, err := c.lasting(ctx)
	if err != nil {
		return err
	}
	defer done()
	m := wire.StatusSource{Paused: snap.paused, Jobs: each(snap.entries, func(e *schedule.Entry) wire.JobStatus {
		return wire.JobStatus{Job: e.Job, Plan: e.Plan, Next: e.Next, Parked: e.Parked()}
	}), Remotes: c.remoteStatus(snap.posts)}
	for _, b := range snap.building {
		status := buildStatus(b)
		if l := c.building.get(b.UUID); l != nil {
			status.Away = l.awaySince()
		}
		m.Building = append(m.Building, status)
	}
	for _, p := range snap.platforms {
		ps := wire.PlatformSource{
			PlatformStatus: wire.PlatformStatus{Name: p.Name, Dropped: p.Dropped},
			Runs:           each(snap.queues[p.Name], func(run *job.Run) job.Run { return *run }),
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
