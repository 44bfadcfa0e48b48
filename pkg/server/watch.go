package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// target is a build to be shown.
type target struct {
	wire.BuildStatus
	live *live // nil if it had ended when it was found
}

func liveTarget(l *live) target { return target{buildStatus(l.Building), l} }

func endedTarget(b job.Build) target {
	return target{BuildStatus: wire.BuildStatus{
		UUID: b.UUID, Run: b.Run, Try: b.Try, Job: b.Job, Platform: b.Platform, Worker: b.Worker, Started: b.Started,
	}}
}

// watch answers a client of ours: build after build of a run, or one build.
func (c *clientSession) watch(ctx context.Context, m wire.Watch) error {
	if m.Run == 0 {
		t, err := c.find(ctx, m)
		if err != nil {
			return err
		}
		if err := c.show(ctx, t, m.From); err != nil {
			return err
		}
		return c.end(ctx, t, true)
	}
	w := watcher{clientSession: c, run: m.Run, job: m.Job, seen: map[uuid.UUID]bool{}}
	t, err := w.begin(ctx, m.Build)
	for from := m.From; err == nil; from = 0 {
		if m.Build != uuid.Nil && t.UUID != m.Build {
			from = 0
		}
		if err := c.show(ctx, t, from); err != nil {
			return err
		}
		again, err := w.goesOn(ctx, t)
		if err != nil {
			return err
		}
		if err := c.end(ctx, t, !again); err != nil || !again {
			return err
		}
		if t, err = w.next(ctx); err != nil {
			return err
		}
	}
	return err
}

// show names a build and shows its console to its end.
func (c *clientSession) show(ctx context.Context, t target, from int64) error {
	if err := c.send(wire.Watching{Build: t.BuildStatus}); err != nil {
		return err
	}
	return c.replay(ctx, t, from, true, func(from int64, lines []job.Line) error {
		return c.send(wire.Lines{UUID: t.UUID, From: from, Lines: lines})
	})
}

// end shows how a build has ended.
func (c *clientSession) end(ctx context.Context, t target, final bool) error {
	build, done, err := c.outcome(ctx, t)
	if err != nil {
		return err
	}
	defer done()
	return c.send(wire.Ended{Build: build, Final: final})
}

// find tells which build a client wants to watch.
func (c *clientSession) find(ctx context.Context, m wire.Watch) (target, error) {
	if m.What == "" {
		l := c.building.newest(func(l *live) bool {
			return (m.Job == "" || l.Run.Job.Name == m.Job) && (m.Platform == "" || l.Run.Platform == m.Platform)
		})
		if l == nil {
			return target{}, errors.New("no build runs that fits")
		}
		return liveTarget(l), nil
	}
	if l := c.building.newest(func(l *live) bool { return l.Run.Job.Name == m.What }); l != nil {
		return liveTarget(l), nil
	}
	build, err := c.store.Latest(m.What, m.Platform)
	if err == nil {
		return endedTarget(build), nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return target{}, err
	}
	return c.findBuild(ctx, m.What)
}

// findBuild finds a build by its uuid, or a unique prefix of it.
func (c *clientSession) findBuild(ctx context.Context, what string) (target, error) {
	if running := c.building.begunWith(what); len(running) == 1 {
		return liveTarget(running[0]), nil
	}
	id, err := c.store.Resolve(what)
	if err == nil {
		build, err := c.store.Build(id)
		return endedTarget(build), err
	}
	known := false
	if look := c.owner.look(ctx, func(st *schedule.State) { known = st.Entry(what) != nil }); look != nil {
		return target{}, look
	}
	if known {
		return target{}, fmt.Errorf("job %q has not been built yet", what)
	}
	return target{}, fmt.Errorf("no job is called %q, and no build: %w", what, err)
}

// watcher finds the builds of one run, one after the other.
type watcher struct {
	*clientSession
	run   uint64
	job   string
	seen  map[uuid.UUID]bool
	tries int // how many tries of the run have ended and need not be looked for
}

// runBuilds is how many of a job's last builds are searched for those of a run.
const runBuilds = 100

// begin finds the first build to be shown. A client that comes back names the one
// that it was shown last; it was shown all before that.
func (w *watcher) begin(ctx context.Context, last uuid.UUID) (target, error) {
	if last == uuid.Nil {
		return w.next(ctx)
	}
	t, found := target{}, false
	if l := w.building.get(last); l != nil {
		t, found = liveTarget(l), true
	} else if build, err := w.store.Build(last); err == nil {
		t, found = endedTarget(build), true
	}
	if !found || t.Run != w.run {
		return w.next(ctx)
	}
	earlier, err := w.unseen()
	for _, build := range earlier {
		if build.Started.Before(t.Started) {
			w.seen[build.UUID] = true
		}
	}
	return w.take(t), err
}

// next waits for a build of the run that was not seen yet. Of those that ended
// before anybody watched only the newest is shown, and only if no other follows.
func (w *watcher) next(ctx context.Context) (target, error) {
	for first := len(w.seen) == 0; ; first = false {
		changed := w.building.wait()
		if l := w.running(); l != nil {
			return w.take(liveTarget(l)), nil
		}
		run, err := w.queued(ctx)
		if err != nil {
			return target{}, err
		}
		if run != nil && first {
			w.tries = run.Tries
		}
		if run == nil || run.Tries > w.tries {
			t, found, err := w.ended(run)
			if err != nil {
				return target{}, err
			}
			if found {
				return w.take(t), nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return target{}, context.Cause(ctx)
		}
	}
}

// ended finds a build of the run that has ended unseen. When there is none, and
// the run is not queued any more, that is an error.
func (w *watcher) ended(run *job.Run) (t target, found bool, err error) {
	if l := w.running(); l != nil { // handed out in this moment
		return liveTarget(l), true, nil
	}
	builds, err := w.unseen()
	if err != nil {
		return t, false, err
	}
	if len(builds) == 0 {
		if run == nil {
			return t, false, fmt.Errorf("run %d of job %q ended without a further build: it was cancelled or unscheduled", w.run, w.job)
		}
		w.tries = run.Tries // a build that could not even be recorded
		return t, false, nil
	}
	if len(w.seen) == 0 {
		for _, older := range builds[1:] {
			w.seen[older.UUID] = true
		}
		builds = builds[:1]
	}
	return endedTarget(builds[len(builds)-1]), true, nil
}

// unseen are the builds of the run that have ended and were not shown, the newest
// first.
func (w *watcher) unseen() ([]job.Build, error) {
	builds, err := w.store.List(w.job, runBuilds)
	return slices.DeleteFunc(builds, func(b job.Build) bool { return b.Run != w.run || w.seen[b.UUID] }), err
}

// goesOn reports whether a further build of the run follows, runs, or has ended.
func (w *watcher) goesOn(ctx context.Context, t target) (bool, error) {
	if t.live != nil {
		return t.live.again, nil
	}
	run, err := w.queued(ctx)
	if err != nil || run != nil || w.running() != nil {
		return err == nil, err
	}
	unseen, err := w.unseen()
	return len(unseen) > 0, err
}

func (w *watcher) take(t target) target {
	w.seen[t.UUID] = true
	w.tries = max(w.tries, t.Try)
	return t
}

// running is the build of the run that runs and was not seen, nil if there is none.
func (w *watcher) running() *live {
	return w.building.newest(func(l *live) bool { return l.Run.ID == w.run && !w.seen[l.UUID] })
}

func (w *watcher) queued(ctx context.Context) (run *job.Run, err error) {
	err = w.owner.look(ctx, func(st *schedule.State) { run = st.Run(w.run) })
	return run, err
}
