package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// observe answers a client of the reference: the console from its beginning,
// then as it grows, at last the result's text. A build that has ended is
// replayed.
func (c *clientSession) observe(ctx context.Context, m wire.Observe) error {
	show := func(line job.Line) error {
		return c.send(wire.Output{UUID: m.UUID, Data: line.Data, Delta: line.Delta, Stamped: true})
	}
	ended, err := c.replay(ctx, m.UUID, 0, false, func(_ int64, lines []job.Line) error {
		for _, line := range lines {
			if err := show(line); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return show(job.Line{Delta: ended.Finished.Sub(ended.Started), Data: []byte(ended.Result.String())})
}

// watch answers a client of ours: build after build of a run, or one build.
func (c *clientSession) watch(ctx context.Context, m wire.Watch) error {
	seen := map[uuid.UUID]bool{}
	for {
		status, err := c.find(ctx, m, seen)
		if err != nil {
			return err
		}
		seen[status.UUID] = true
		if err := c.send(wire.Watching{Build: status}); err != nil {
			return err
		}
		ended, err := c.replay(ctx, status.UUID, m.From, true, func(from int64, lines []job.Line) error {
			return c.send(wire.Lines{UUID: status.UUID, From: from, Lines: lines})
		})
		if err != nil {
			return err
		}
		again, err := c.goesOn(ctx, m, seen)
		if err != nil {
			return err
		}
		if err := c.send(wire.Ended{Build: ended, Final: !again}); err != nil || !again {
			return err
		}
		m.From = 0
	}
}

// goesOn reports whether a further build of the run follows, or is there.
func (c *clientSession) goesOn(ctx context.Context, m wire.Watch, seen map[uuid.UUID]bool) (bool, error) {
	if m.Run == 0 {
		return false, nil
	}
	queued := false
	err := c.owner.look(ctx, func(st *schedule.State) { queued = st.Run(m.Run) != nil })
	if err != nil || queued {
		return queued, err
	}
	unseen, err := c.buildsOf(m, seen)
	return len(unseen) > 0, err
}

// buildsOf are the builds of a run that are not in seen, the newest first.
func (c *clientSession) buildsOf(m wire.Watch, seen map[uuid.UUID]bool) ([]wire.BuildStatus, error) {
	// Those that run are looked at first: one that ends meanwhile is found
	// among those that have ended.
	running := c.building.all(func(l *live) bool { return l.Run.ID == m.Run })
	ended, err := c.store.List(m.Job, runBuilds)
	if err != nil {
		return nil, err
	}
	var found []wire.BuildStatus
	had := maps.Clone(seen)
	add := func(status wire.BuildStatus) {
		if !had[status.UUID] {
			had[status.UUID] = true
			found = append(found, status)
		}
	}
	for _, l := range running {
		add(l.status())
	}
	for _, build := range ended {
		if build.Run == m.Run {
			add(endedStatus(build))
		}
	}
	return found, nil
}

// replay shows a build's console from a line on, to its end, and returns its
// record. show is given the number of the first line; with partial also the
// line that is being printed, flagged, in a call of its own or behind others.
func (c *clientSession) replay(
	ctx context.Context, id uuid.UUID, from int64, partial bool, show func(int64, []job.Line) error,
) (job.Build, error) {
	l := c.building.get(id)
	if l == nil {
		return c.replayEnded(id, from, show)
	}
	select {
	case <-l.begun:
	case <-ctx.Done():
		return job.Build{}, context.Cause(ctx)
	}
	if l.console != nil {
		if err := follow(ctx, l, from, partial, show); err != nil {
			return job.Build{}, err
		}
	}
	select {
	case <-l.ended:
		return l.build, nil
	case <-ctx.Done():
		return job.Build{}, context.Cause(ctx)
	}
}

// follow shows a live console to its end.
func follow(ctx context.Context, l *live, from int64, partial bool, show func(int64, []job.Line) error) error {
	o := l.console.Observe(from)
	defer o.Close()
	if partial {
		o.ShowPartial()
	}
	next := max(0, from)
	for {
		lines, unfinished, err := o.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the console: %w", err)
		}
		first := next
		next += int64(len(lines))
		if unfinished != nil {
			flagged := *unfinished
			flagged.Flags |= job.Partial
			lines = append(lines[:len(lines):len(lines)], flagged)
		}
		if err := show(first, lines); err != nil {
			return err
		}
	}
}

// replayEnded shows the console of a build that has ended.
func (c *clientSession) replayEnded(id uuid.UUID, from int64, show func(int64, []job.Line) error) (job.Build, error) {
	build, err := c.store.Build(id)
	if err != nil {
		return build, err
	}
	next := max(0, from)
	for lines, err := range c.store.Lines(id, from) {
		if err != nil {
			return build, err
		}
		if err := show(next, lines); err != nil {
			return build, err
		}
		next += int64(len(lines))
	}
	return build, nil
}

// find tells which build a client wants to watch.
func (c *clientSession) find(ctx context.Context, m wire.Watch, seen map[uuid.UUID]bool) (wire.BuildStatus, error) {
	if m.Run != 0 {
		return c.findRun(ctx, m, seen)
	}
	if m.What == "" {
		l := c.building.newest(func(l *live) bool {
			return (m.Job == "" || l.Run.Job.Name == m.Job) && (m.Platform == "" || l.Run.Platform == m.Platform)
		})
		if l == nil {
			return wire.BuildStatus{}, errors.New("no build runs that fits")
		}
		return l.status(), nil
	}
	if l := c.building.newest(func(l *live) bool { return l.Run.Job.Name == m.What }); l != nil {
		return l.status(), nil
	}
	build, err := c.store.Latest(m.What, m.Platform)
	if err == nil {
		return endedStatus(build), nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return wire.BuildStatus{}, err
	}
	return c.findBuild(ctx, m.What)
}

// findBuild finds a build by its uuid, or a unique prefix of it.
func (c *clientSession) findBuild(ctx context.Context, what string) (wire.BuildStatus, error) {
	if len(what) >= minPrefix {
		running := c.building.all(func(l *live) bool { return hasPrefix(l.UUID, what) })
		if len(running) == 1 {
			return running[0].status(), nil
		}
	}
	id, err := c.store.Resolve(what)
	if err == nil {
		build, err := c.store.Build(id)
		return endedStatus(build), err
	}
	known := false
	if look := c.owner.look(ctx, func(st *schedule.State) { known = st.Entry(what) != nil }); look != nil {
		return wire.BuildStatus{}, look
	}
	if known {
		return wire.BuildStatus{}, fmt.Errorf("job %q has not been built yet", what)
	}
	return wire.BuildStatus{}, err
}

// runBuilds is how many of a job's last builds are searched for one of a run.
const runBuilds = 100

// findRun waits for a build of the run that was not seen yet. When there are
// several, the first one to be shown is the newest, all others are in order.
func (c *clientSession) findRun(ctx context.Context, m wire.Watch, seen map[uuid.UUID]bool) (wire.BuildStatus, error) {
	for first := true; ; first = false {
		changed := c.building.wait()
		queued := false
		if err := c.owner.look(ctx, func(st *schedule.State) { queued = st.Run(m.Run) != nil }); err != nil {
			return wire.BuildStatus{}, err
		}
		var unseen []wire.BuildStatus
		if first || !queued || c.building.newest(func(l *live) bool { return l.Run.ID == m.Run }) != nil {
			var err error
			if unseen, err = c.buildsOf(m, seen); err != nil {
				return wire.BuildStatus{}, err
			}
		}
		switch {
		case len(unseen) > 0 && len(seen) > 0:
			return unseen[len(unseen)-1], nil
		case len(unseen) > 0 && (!queued || c.building.get(unseen[0].UUID) != nil):
			for _, older := range unseen[1:] {
				seen[older.UUID] = true
			}
			return unseen[0], nil
		case !queued:
			return wire.BuildStatus{}, fmt.Errorf("run %d of job %q ended without a further build: it was cancelled or unscheduled", m.Run, m.Job)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return wire.BuildStatus{}, context.Cause(ctx)
		}
	}
}

func endedStatus(b job.Build) wire.BuildStatus {
	return wire.BuildStatus{
		UUID: b.UUID, Run: b.Run, Try: b.Try, Job: b.Job, Platform: b.Platform, Worker: b.Worker, Started: b.Started,
	}
}

// listLimit is how many builds a list has at the most.
const listLimit = 10_000

// list answers with builds that have ended, the newest first.
func (c *clientSession) list(m wire.List) error {
	limit := min(m.Limit, listLimit)
	if limit <= 0 {
		limit = 50
	}
	builds, err := c.store.List(m.Job, int(limit))
	if err != nil {
		return err
	}
	return c.send(wire.ListReply{Builds: builds})
}

// export answers with a build's result file.
func (c *clientSession) export(what string) error {
	id, err := c.store.Resolve(what)
	if err != nil {
		return err
	}
	size, write, err := c.store.Export(id)
	if err != nil {
		return err
	}
	return c.send(wire.ExportReply{Size: size, Write: write})
}

// uploads is where the outbox gets builds from.
type uploads struct{ s *Server }

// Open implements upload.Source.
func (u uploads) Open(id uuid.UUID) (int64, func(io.Writer) error, error) {
	return u.s.store.Export(id)
}

// Delivered implements upload.Source.
func (u uploads) Delivered(ctx context.Context, id uuid.UUID) error {
	return u.s.owner.change(ctx, func(st *schedule.State, _ time.Time) ([]schedule.Event, error) {
		e, err := st.Deliver(id)
		return []schedule.Event{e}, err
	})
}

// fillOutbox hands over what was not delivered before.
func (s *Server) fillOutbox() {
	for id := range s.owner.state.Outbox() {
		build, err := s.store.Build(id)
		if err != nil {
			s.Log.Error().Err(err).Stringer("build", id).Msg("reading a build that waits for upload")
		}
		s.outbox.Add(id, build.Job)
	}
}
