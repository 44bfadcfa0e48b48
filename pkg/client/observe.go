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
