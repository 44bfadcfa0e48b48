package server

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	for {
		status, err := c.find(ctx, m)
		if err != nil {
			return err
		}
		if err := c.send(wire.Watching{Build: status}); err != nil {
			return err
		}
		ended, err := c.replay(ctx, status.UUID, m.From, true, func(from int64, lines []job.Line) error {
			return c.send(wire.Lines{UUID: status.UUID, From: from, Lines: lines})
		})
		if err != nil {
			return err
		}
		again, err := c.goesOn(ctx, m.Run)
		if err != nil {
			return err
		}
		final := !again
		if err := c.send(wire.Ended{Build: ended, Final: final}); err != nil || final {
			return err
		}
		m.From = 0
	}
}

// goesOn reports whether a further build of the run follows, or is running.
func (c *clientSession) goesOn(ctx context.Context, run uint64) (bool, error) {
	queued := false
	err := c.owner.look(ctx, func(st *schedule.State) { queued = run != 0 && st.Run(run) != nil })
	return queued || c.building.newest(func(l *live) bool { return run != 0 && l.Run.ID == run }) != nil, err
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
func (c *clientSession) find(ctx context.Context, m wire.Watch) (wire.BuildStatus, error) {
	if m.Run != 0 {
		return c.findRun(ctx, m)
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

// findRun waits until the run is handed out. When that was before, it is the
// newest build of the run.
func (c *clientSession) findRun(ctx context.Context, m wire.Watch) (wire.BuildStatus, error) {
	for {
		changed := c.building.wait()
		if l := c.building.newest(func(l *live) bool { return l.Run.ID == m.Run }); l != nil {
			return l.status(), nil
		}
		queued := false
		if err := c.owner.look(ctx, func(st *schedule.State) { queued = st.Run(m.Run) != nil }); err != nil {
			return wire.BuildStatus{}, err
		}
		if !queued {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return wire.BuildStatus{}, context.Cause(ctx)
		}
	}
	builds, err := c.store.List(m.Job, runBuilds)
	if err != nil {
		return wire.BuildStatus{}, err
	}
	for _, build := range builds {
		if build.Run == m.Run {
			return endedStatus(build), nil
		}
	}
	if l := c.building.newest(func(l *live) bool { return l.Run.ID == m.Run }); l != nil {
		return l.status(), nil
	}
	return wire.BuildStatus{}, fmt.Errorf("run %d of job %q ended without a build: it was cancelled or unscheduled", m.Run, m.Job)
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
