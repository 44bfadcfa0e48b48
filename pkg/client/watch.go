package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Viewer is shown a build while it is watched. Functions may be nil; an error of
// one ends the watching.
type Viewer struct {
	// Begin names the build whose console follows.
	Begin func(wire.BuildStatus) error
	// Line is given each line once (none has the flag job.Many), without its
	// newline, valid until it returns. One with the flag job.Partial may grow: it is
	// replaced by the next line, partial or not. The line by which a reference
	// server tells the result is none, unless its text is of no known form: then it
	// is the last one, and the result of End has no text.
	Line func(job.Line) error
	// Pause is called when the lines that are at hand were given: more may take a
	// while.
	Pause func() error
	// End is given the record of a build that has ended: from a reference server
	// its names, times and result. With again, another try of its run follows.
	End func(build job.Build, again bool) error
	// Lost tells that there is no connection, why, and when the next one is tried.
	Lost func(err error, wait time.Duration) error
}

// Watch shows a build to v: of a run if target.Run is not 0, else what
// target.What names. A run is watched to its last try.
//
// Once it is connected to a server of ours it goes on until the end, or ctx is
// done, or the server refuses: a connection that breaks, or over which nothing
// comes, is made again, and the new one goes on where the old one was. No line
// is shown twice, and none left out.
//
// A reference server can be asked for builds that run, by uuid or the newest of a
// job; it tells no result but as the last line, and a broken connection is an
// error.
func (c *Client) Watch(ctx context.Context, target wire.Watch, v Viewer) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	if !c.remote.Own() {
		return c.observe(ctx, target, v)
	}
	w := watching{Client: c, viewer: v, target: target}
	return w.run(ctx)
}

// watching is a watch with its place.
type watching struct {
	*Client
	viewer Viewer
	target wire.Watch
	build  uuid.UUID // begun last, zero before the first
	next   int64     // number of its first line that was not shown
	ended  bool      // its end was shown,
	final  bool      // and that no further build follows
	heard  bool      // something came over this connection
	fatal  error     // what another connection does not mend
}

// longestPause is the longest between two attempts to connect.
const longestPause = time.Minute

// run asks over one connection after the other.
func (w *watching) run(ctx context.Context) error {
	for pause := w.pause; ; pause = min(pause*3/2, longestPause) {
		begun := time.Now()
		w.heard = false
		err := w.connect(ctx)
		if err == nil {
			err = w.ask(ctx, w.place(), w.take, wire.KindWatching, wire.KindLines, wire.KindEnded, wire.KindLater)
		}
		switch {
		case w.fatal != nil:
			return w.fatal
		case w.final:
			return nil // whatever became of the success behind it
		case err == nil, ctx.Err() != nil, isFinal(err):
			return err
		case w.heard, time.Since(begun) > longestPause:
			pause = w.pause
		}
		if err := rest(ctx, err, pause, w.viewer.Lost); err != nil {
			return err
		}
	}
}

// isFinal reports whether asking again would bring the same error.
func isFinal(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) || errors.Is(err, wire.ErrUnexpected) || errors.Is(err, wire.ErrTooLong)
}

// later is the end of a connection that the server announced.
type later struct{ wire.Later }

// Error implements error.
func (e *later) Error() string { return "the server says: " + e.Reason }

// rest waits before the next attempt, having told so, unless tell is nil. Many
// clients lose their connections in one moment: they do not come back in one.
func rest(ctx context.Context, lost error, pause time.Duration, tell func(error, time.Duration) error) error {
	wait := pause/2 + rand.N(pause/2+1) //nolint:gosec // jitter
	var announced *later
	if errors.As(lost, &announced) {
		wait += min(max(0, announced.After), longestPause)
	}
	if tell != nil {
		if err := tell(lost, wait); err != nil {
			return err
		}
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// place is what is asked for: the target, and when a build of it was begun, that
// one from the line on that is next. A server that knows nothing of coming back
// takes that line for one of whatever build of the run it shows first: it is asked
// for all of it.
func (w *watching) place() wire.Watch {
	switch {
	case w.build == uuid.Nil:
		return w.target
	case w.target.Run != 0 && !w.remote.Can(wire.CapResume):
		return wire.Watch{Run: w.target.Run, Job: w.target.Job}
	case w.target.Run != 0:
		return wire.Watch{Run: w.target.Run, Job: w.target.Job, Build: w.build, From: w.next}
	}
	return wire.Watch{What: w.build.String(), Build: w.build, From: w.next}
}

// take shows what is new of a message.
func (w *watching) take(m wire.Message) error {
	w.heard = true
	switch m := m.(type) {
	case wire.Watching:
		w.fatal = w.begin(m.Build)
	case wire.Lines:
		w.fatal = w.lines(m)
	case wire.Ended:
		w.fatal = w.end(m)
	case wire.Later:
		return &later{m}
	}
	return w.fatal
}

// begin shows a build that was not begun yet.
func (w *watching) begin(b wire.BuildStatus) error {
	if b.UUID == w.build {
		return nil
	}
	first := w.build == uuid.Nil
	w.build, w.next, w.ended = b.UUID, 0, false
	if first && (w.target.Build == uuid.Nil || w.target.Build == b.UUID) {
		w.next = w.target.From
	}
	if w.viewer.Begin == nil {
		return nil
	}
	return w.viewer.Begin(b)
}

// lines shows those that were not shown yet.
func (w *watching) lines(m wire.Lines) error {
	switch {
	case m.UUID != w.build:
		return fmt.Errorf("the server sent lines of build %v, which it did not name", m.UUID)
	case m.From > w.next:
		return fmt.Errorf("the server left out lines %d to %d", w.next, m.From-1)
	}
	lines := m.Lines
	if m.From < w.next {
		lines = fresh(lines, w.next-m.From)
	}
	w.next = max(w.next, m.From+job.CountLines(m.Lines))
	return w.show(w.viewer, lines...)
}

// fresh is lines without the first n, nothing of which has changed since. A
// partial one is kept only when it comes behind all of these.
func fresh(lines []job.Line, n int64) []job.Line {
	for i, line := range lines {
		count := line.Count()
		switch {
		case n == 0:
			return lines[i:]
		case n < count:
			return append([]job.Line{line.From(n)}, lines[i+1:]...)
		}
		n -= count
	}
	return nil
}

// end shows the end of a build, which may come again over another connection, and
// then say otherwise about the run: a try that was to follow was cancelled.
func (w *watching) end(m wire.Ended) error {
	again := !m.Final
	w.final = m.Final
	if w.ended {
		if m.Final {
			return fmt.Errorf("run %d ended without a further build: it was cancelled or unscheduled", w.target.Run)
		}
		return nil
	}
	w.ended = true
	if w.viewer.End == nil {
		return nil
	}
	return w.viewer.End(m.Build, again)
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
