package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Viewer is shown a build while it is watched. Functions may be nil.
type Viewer struct {
	// Begin names the build whose console follows.
	Begin func(wire.BuildStatus) error
	// Line is given each line, without its newline, valid until it returns. One
	// with the flag job.Partial may grow: it is replaced by the next line, partial
	// or not. At the end of a build of a reference server the last line is the
	// result's text.
	Line func(job.Line) error
	// End is given the record of a build that has ended. With again, another try
	// of its run follows.
	End func(build job.Build, again bool) error
}

// Watch shows a build to v: of a run if target.Run is not 0, else what
// target.What names. A reference server can be asked for builds that run, by
// uuid or the newest of a job; it tells no result but as the last line.
func (c *Client) Watch(ctx context.Context, target wire.Watch, v Viewer) error {
	own, err := c.Own(ctx)
	if err != nil {
		return err
	}
	if !own {
		return c.observe(ctx, target, v)
	}
	return c.ask(ctx, target, func(m wire.Message) error {
		switch m := m.(type) {
		case wire.Watching:
			if v.Begin != nil {
				return v.Begin(m.Build)
			}
		case wire.Lines:
			return v.lines(m.Lines)
		case wire.Ended:
			if v.End != nil {
				return v.End(m.Build, !m.Final)
			}
		}
		return nil
	}, wire.KindWatching, wire.KindLines, wire.KindEnded)
}

func (v Viewer) lines(lines []job.Line) error {
	if v.Line == nil {
		return nil
	}
	for _, line := range lines {
		if err := v.Line(line); err != nil {
			return err
		}
	}
	return nil
}

// observe watches at a reference server.
func (c *Client) observe(ctx context.Context, target wire.Watch, v Viewer) error {
	if target.Run != 0 {
		return &CannotError{"name the run that was asked for, so it can not be followed (use observe-latest)"}
	}
	build := wire.BuildStatus{Job: target.What}
	id, err := uuid.Parse(target.What)
	if err == nil {
		build = wire.BuildStatus{UUID: id}
	} else {
		name := target.Job
		if target.What != "" {
			name = target.What
		}
		if build, err = c.newestRunning(ctx, name, target.Platform); err != nil {
			return err
		}
	}
	if v.Begin != nil {
		if err := v.Begin(build); err != nil {
			return err
		}
	}
	return c.ask(ctx, wire.Observe{UUID: build.UUID}, func(m wire.Message) error {
		out := m.(wire.Output)
		return v.lines([]job.Line{{Delta: out.Delta, Data: out.Data}})
	}, wire.KindOutput)
}

// ErrUnsuccessful says that a build that was watched did not end well.
var ErrUnsuccessful = errors.New("the build did not succeed")

// Outcome is nil for a build that succeeded, else an [ErrUnsuccessful] with its
// result.
func Outcome(b job.Build) error {
	if b.Result.Success() {
		return nil
	}
	return fmt.Errorf("%w: %v after %v", ErrUnsuccessful, b.Result, b.Finished.Sub(b.Started).Round(time.Millisecond))
}
