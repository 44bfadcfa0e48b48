package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"builder/pkg/job"
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
	shown := target{wire.BuildStatus{UUID: m.UUID}, c.building.get(m.UUID)}
	err := c.replay(ctx, shown, 0, false, func(_ int64, lines []job.Line) error {
		for _, many := range lines {
			for line := range many.Each() {
				if err := show(line); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	ended, done, err := c.outcome(ctx, shown)
	if err != nil {
		return err
	}
	defer done()
	return show(job.Line{Delta: ended.Finished.Sub(ended.Started), Data: []byte(ended.Result.String())})
}

// replay shows a build's console from a line on, to the build's end. show is given
// the number of the first line; with partial also the line that is being printed,
// flagged, in a call of its own or behind others.
func (c *clientSession) replay(
	ctx context.Context, t target, from int64, partial bool, show func(int64, []job.Line) error,
) error {
	l := t.live
	if l == nil {
		return c.replayEnded(t.UUID, from, show)
	}
	select {
	case <-l.begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if l.console != nil {
		if err := follow(ctx, l, from, partial, show); err != nil {
			return err
		}
	}
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	// recorded is about how often a record is in memory while it is sent: as it was
	// read, decoded, and encoded.
	recorded = 4
	// encoded is about what an artifact costs in a record that is being encoded.
	encoded = 256
)

// outcome is the record of a build that has ended, which may be held until done is
// called: the names of a hundred thousand artifacts are much for a slow client.
func (c *clientSession) outcome(ctx context.Context, t target) (build job.Build, done func(), err error) {
	if t.live != nil {
		done, err = c.replies.take(ctx, int64(len(t.live.build.Artifacts))*encoded)
		return t.live.build, done, err
	}
	size, err := c.store.RecordSize(t.UUID)
	if err != nil {
		return build, nil, err
	}
	if done, err = c.replies.take(ctx, size*recorded); err != nil {
		return build, nil, err
	}
	if build, err = c.store.Build(t.UUID); err != nil {
		done()
	}
	return build, done, err
}

// follow shows a live console to its end.
func follow(ctx context.Context, l *live, from int64, partial bool, show func(int64, []job.Line) error) error {
	o := l.console.Observe(from)
	defer o.Close()
	if partial {
		o.ShowPartial()
	}
	l.observers.Add(1)
	defer l.observers.Add(-1)
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
		next += job.CountLines(lines)
		if unfinished != nil {
			flagged := *unfinished
			flagged.Flags |= job.Partial
			lines = append(lines[:len(lines):len(lines)], flagged)
		}
		if err := show(first, lines); err != nil {
			return err
		}
		if err := l.yield(ctx, lines); err != nil {
			return err
		}
	}
}

const (
	// muchText is how many octets at once mean that a build prints fast.
	muchText = 32 << 10
	// yieldTime is how long an observer then waits for each of the others.
	yieldTime = time.Millisecond
)

// yield keeps many observers from slowing a build that prints fast: they get its
// console a little later. When it has ended they have the machine to themselves.
func (l *live) yield(ctx context.Context, lines []job.Line) error {
	octets := 0
	for _, line := range lines {
		octets += len(line.Data)
	}
	others := l.observers.Load() - 1
	if octets < muchText || others < 1 || l.console.Closed() {
		return nil
	}
	select {
	case <-time.After(time.Duration(others) * yieldTime):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// replayEnded shows the console of a build that has ended.
func (c *clientSession) replayEnded(id uuid.UUID, from int64, show func(int64, []job.Line) error) error {
	next := max(0, from)
	for lines, err := range c.store.Lines(id, from) {
		if err != nil {
			return err
		}
		if err := show(next, lines); err != nil {
			return err
		}
		next += job.CountLines(lines)
	}
	return nil
}

// listLimit is how many builds a list has at the most.
const listLimit = 10_000

// listed is about what a build costs in a list that is being sent.
const listed = 1 << 10

// list answers with builds that have ended, the newest first.
func (c *clientSession) list(ctx context.Context, m wire.List) error {
	limit := min(m.Limit, listLimit)
	if limit <= 0 {
		limit = 50
	}
	done, err := c.replies.take(ctx, limit*listed)
	if err != nil {
		return err
	}
	defer done()
	builds, outputs, err := c.store.ListOutputs(m.Job, int(limit))
	if err != nil {
		return err
	}
	marks, err := c.marks(builds)
	if err != nil {
		return err
	}
	return c.send(wire.ListReply{Builds: builds, Outputs: outputs, Marks: marks})
}

// export answers with a build's result file. Damage that is found before the
// first octet has left is told to the client; if it is found later, that ends the
// connection.
func (c *clientSession) export(what string) error {
	id, err := c.store.Resolve(what)
	if err != nil {
		return err
	}
	size, write, err := c.store.Export(id)
	if err != nil {
		return err
	}
	var failed error
	err = c.send(wire.ExportReply{Size: size, Write: func(w io.Writer) error {
		failed = write(w)
		return failed
	}})
	var network *net.OpError
	if failed != nil && !errors.As(failed, &network) {
		c.Log.Error().Err(failed).Stringer("build", id).Msg("exporting a damaged build")
	}
	if errors.Is(err, wire.ErrUnsent) {
		return failed
	}
	return err
}
