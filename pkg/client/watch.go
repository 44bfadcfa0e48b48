package client

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Viewer is shown a build while it is watched. Functions may be nil.
type Viewer struct {
	// Begin names the build whose console follows.
	Begin func(wire.BuildStatus) error
	// Line is given each line (none has the flag job.Many), without its newline, valid until it returns. One
	// with the flag job.Partial may grow: it is replaced by the next line, partial
	// or not. The line by which a reference server tells the result is none, unless
	// its text is of no known form: then it is the last one, and the result of End
	// has no text.
	Line func(job.Line) error
	// Pause is called when the lines that are at hand were given: more may take a
	// while.
	Pause func() error
	// End is given the record of a build that has ended: from a reference server
	// its names, times and result. With again, another try of its run follows.
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
			return c.show(v, m.Lines...)
		case wire.Ended:
			if v.End != nil {
				return v.End(m.Build, !m.Final)
			}
		}
		return nil
	}, wire.KindWatching, wire.KindLines, wire.KindEnded)
}

// show gives lines to v, and the chance to put them out when none are at hand.
func (c *Client) show(v Viewer, lines ...job.Line) error {
	return v.show(lines, c.conn.Buffered())
}

func (v Viewer) show(lines []job.Line, more bool) error {
	if v.Line != nil {
		for _, many := range lines {
			for line := range many.Each() {
				if err := v.Line(line); err != nil {
					return err
				}
			}
		}
	}
	if v.Pause == nil || more {
		return nil
	}
	return v.Pause()
}

// observe watches at a reference server, which shows the console from its
// beginning and tells the result's text as the last line. So a line that reads
// like a result waits until another one follows.
func (c *Client) observe(ctx context.Context, target wire.Watch, v Viewer) error {
	build, err := c.findRunning(ctx, target)
	if err != nil {
		return err
	}
	if v.Begin != nil {
		if err := v.Begin(build); err != nil {
			return err
		}
	}
	var last job.Line
	count, held, shown := int64(0), false, false
	err = c.ask(ctx, wire.Observe{UUID: build.UUID}, func(m wire.Message) error {
		if held {
			if err := c.show(v, last); err != nil {
				return err
			}
		}
		out := m.(wire.Output)
		last = job.Line{Delta: out.Delta, Data: append(last.Data[:0], out.Data...)}
		count++
		_, result := toldResult(last.Data)
		wanted := count > target.From
		held, shown = wanted && result, wanted && !result
		if !shown {
			return c.show(v)
		}
		return c.show(v, last)
	}, wire.KindOutput)
	switch {
	case err != nil && held:
		return errors.Join(err, v.show([]job.Line{last}, false))
	case err != nil || v.End == nil:
		return err
	}
	result, known := toldResult(last.Data)
	if !known && !shown {
		result.Text = string(last.Data)
	}
	return v.End(job.Build{
		UUID: build.UUID, Job: build.Job, Platform: build.Platform, Started: build.Started,
		Finished: build.Started.Add(last.Delta), Result: result,
	}, false)
}

// findRunning finds the build that is meant among those that a reference server
// says are running. It may know a uuid that it does not show.
func (c *Client) findRunning(ctx context.Context, target wire.Watch) (wire.BuildStatus, error) {
	if target.Run != 0 {
		return wire.BuildStatus{}, c.Cannot("name the run that was asked for, so it can not be followed (use observe-latest)")
	}
	running, err := c.running(ctx)
	if err != nil {
		return wire.BuildStatus{}, err
	}
	var newest wire.BuildStatus
	for _, b := range running {
		if fits(b, target) && (newest.UUID == uuid.Nil || b.Started.After(newest.Started)) {
			newest = b
		}
	}
	if newest.UUID != uuid.Nil {
		return newest, nil
	}
	if id, err := uuid.Parse(target.What); err == nil {
		return wire.BuildStatus{UUID: id}, nil
	}
	return newest, c.Cannot("show builds that have ended, and none runs that fits")
}

// minPrefix is how much of a uuid must be typed at least.
const minPrefix = 4

// fits reports whether target names that build.
func fits(b wire.BuildStatus, target wire.Watch) bool {
	if what := target.What; what != "" {
		return b.Job == what || len(what) >= minPrefix && strings.HasPrefix(b.UUID.String(), strings.ToLower(what))
	}
	return (target.Job == "" || b.Job == target.Job) && (target.Platform == "" || b.Platform == target.Platform)
}

// toldResult reads what the reference prints of a result. What it does not know
// is a failure with a text of its own.
func toldResult(line []byte) (result job.Result, known bool) {
	result.Kind = job.Failed
	if len(line) > len("signalled ")+20 {
		return result, false
	}
	word, number, _ := strings.Cut(string(line), " ")
	code, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return result, false
	}
	switch word {
	case "exited":
		return job.Result{Kind: job.Exited, Code: code}, true
	case "signalled":
		return job.Result{Kind: job.Signalled, Code: code}, true
	case "stopped":
		return job.Result{Kind: job.Stopped, Code: code}, true
	}
	return result, false
}
