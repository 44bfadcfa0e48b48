package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/wire"
)

const (
	// requestTime is how long a client may take for its first request.
	requestTime = 30 * time.Second
	// idleTime is how long a client of ours may pause between two.
	idleTime = 10 * time.Minute
)

// The requests of the two client protocols.
var (
	legacyRequests = []wire.Kind{
		wire.KindSchedule, wire.KindScheduleOrb, wire.KindUnschedule, wire.KindExecute, wire.KindExecuteOld,
		wire.KindReschedule, wire.KindDropPlatform, wire.KindUndropPlatform, wire.KindInfo, wire.KindObserve,
	}
	ownRequests = append([]wire.Kind{
		wire.KindDefine, wire.KindStatus, wire.KindWatch, wire.KindList, wire.KindExport, wire.KindCancel,
		wire.KindDescribe, wire.KindFetch, wire.KindFind,
		wire.KindOutbox, wire.KindOutboxChange,
		wire.KindPin, wire.KindPrune,
	}, legacyRequests...)
)

// clientSession is the connection of one client.
type clientSession struct {
	*Server
	conn *wire.Conn
	own  bool // speaks our own version
	// returns tells that the client comes back when its connection ends.
	returns bool
}

// serveClient does one request of the reference's client, or one after the
// other of ours. Each ends with Success or Failure.
func (s *Server) serveClient(ctx context.Context, conn *wire.Conn, peer wire.Peer) error {
	c := &clientSession{Server: s, conn: conn, own: peer.Own(), returns: peer.Own() && peer.Can(wire.CapAlive)}
	for first := true; ; first = false {
		m, err := c.request(ctx, first)
		if err != nil {
			return err
		}
		if err := c.answer(c.serve(ctx, m)); err != nil || !c.own {
			return err
		}
	}
}

// request takes the next request. Between two of them a client may pause, unless
// others wait for its place.
func (c *clientSession) request(ctx context.Context, first bool) (wire.Message, error) {
	patience, kinds := requestTime, legacyRequests
	if c.own {
		kinds = ownRequests
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	if !first {
		patience = idleTime
		defer c.crowd.pause(leave)()
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := c.conn.Receive(patient, kinds...)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // it came too late: its place is given away
	}
	return m, err
}

// sendError marks an error of the connection: the client can not be told.
type sendError struct{ error }

func (e sendError) Unwrap() error { return e.error }

// send wraps the connection's errors. That a message could not even be begun is
// none of them.
func (c *clientSession) send(m wire.Message) error {
	err := c.conn.Send(m)
	if err == nil || errors.Is(err, wire.ErrUnsent) {
		return err
	}
	return sendError{err}
}

// answer ends a request. This is where errors become text for the client.
func (c *clientSession) answer(err error) error {
	var send sendError
	switch {
	case errors.As(err, &send):
		return send
	case err != nil:
		c.Log.Info().Err(err).Str("peer", c.conn.RemoteAddr()).Msg("request refused")
		return c.conn.Send(wire.Failure{Text: failureText(err)})
	}
	return c.conn.Send(wire.Success{})
}

// failureText is an error for the peer.
func failureText(err error) string { return strings.ToValidUTF8(err.Error(), "?") }

// attended calls f, which may take as long as it likes to answer, with a
// context that ends when the client goes.
func (c *clientSession) attended(ctx context.Context, f func(context.Context) error) error {
	ctx, leave := context.WithCancelCause(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, err := c.conn.Receive(ctx) // nothing may come now
		leave(sendError{err})
	}()
	err := f(ctx)
	var went sendError
	switch cause := context.Cause(ctx); {
	case err == nil || cause == nil:
	case errors.As(cause, &went):
		err = went
	default:
		err = errStopped
	}
	leave(nil)
	<-heard
	return err
}

// serve does one request, up to its Success or Failure.
func (c *clientSession) serve(ctx context.Context, m wire.Message) error {
	switch m := m.(type) {
	case wire.Schedule:
		j := job.Job{Name: m.Job.Name, Platform: m.Job.Platform}
		return c.schedule(ctx, j, m.Job.Script.Data, job.Plan{Period: m.Period}, false)
	case wire.ScheduleOrb:
		return c.schedule(ctx, job.OrbBuild(m.Name, m.Package), nil, job.Plan{Period: m.Period}, false)
	case wire.Define:
		return c.schedule(ctx, m.Job, m.Script, m.Plan, m.Update)
	case wire.Unschedule:
		return c.unschedule(ctx, m.Name)
	case wire.Execute:
		return c.execute(ctx, m)
	case wire.Reschedule:
		return c.reschedule(ctx, m)
	case wire.DropPlatform:
		return c.change(ctx, func(st *schedule.State, _ time.Time) (schedule.Event, error) {
			return st.DropPlatform(m.Platform)
		})
	case wire.UndropPlatform:
		return c.change(ctx, func(st *schedule.State, _ time.Time) (schedule.Event, error) {
			return st.UndropPlatform(m.Platform)
		})
	case wire.Info:
		return c.info(ctx)
	case wire.Status:
		return c.status(ctx)
	case wire.Observe:
		return c.attended(ctx, func(ctx context.Context) error { return c.observe(ctx, m) })
	case wire.Watch:
		err := c.attended(ctx, func(ctx context.Context) error { return c.watch(ctx, m) })
		if c.returns && errors.Is(err, errStopped) {
			return sendError{errors.Join(err, c.conn.Send(wire.Later{After: laterTime, Reason: err.Error()}))}
		}
		return err
	case wire.List:
		return c.list(ctx, m)
	case wire.Export:
		return c.export(m.What)
	case wire.Cancel:
		return c.cancel(ctx, m)
	case wire.Describe:
		return c.describe(ctx, m)
	case wire.Fetch:
		return c.fetch(ctx, m)
	case wire.Find:
		return c.findBuilds(ctx, m)
	case wire.Outbox:
		return c.outbox(ctx, m)
	case wire.OutboxChange:
		return c.outboxChange(ctx, m)
	case wire.Pin:
		return c.pin(m)
	case wire.Prune:
		return c.attended(ctx, func(ctx context.Context) error { return c.pruneAsked(ctx, m) })
	}
	return fmt.Errorf("%w: %v", wire.ErrUnexpected, m.Kind())
}

// change makes one event.
func (c *clientSession) change(ctx context.Context, decide func(*schedule.State, time.Time) (schedule.Event, error)) error {
	return c.owner.change(ctx, func(st *schedule.State, now time.Time) ([]schedule.Event, error) {
		e, err := decide(st, now)
		if err != nil {
			return nil, err
		}
		return []schedule.Event{e}, nil
	})
}

// schedule adds a job, or replaces it. The script is durable before the event.
func (c *clientSession) schedule(ctx context.Context, j job.Job, script []byte, plan job.Plan, update bool) error {
	j.Script = job.Content{}
	switch {
	case j.Template != "" && len(script) > 0:
		return fmt.Errorf("job %q has both a script and a template", j.Name)
	case j.Template != "":
		if err := c.checkTemplate(j); err != nil {
			return err
		}
	case len(script) > wire.MaxScript:
		return fmt.Errorf("the script has %d octets, the limit is %d", len(script), wire.MaxScript)
	default:
		if err := c.mayDefine(ctx, j, plan, update); err != nil {
			return err
		}
		content, release, err := c.store.PutHeld(bytes.NewReader(script))
		if err != nil {
			return fmt.Errorf("keeping the script: %w", err)
		}
		defer release()
		j.Script = content
	}
	var accepted wire.Accepted
	err := c.change(ctx, func(st *schedule.State, now time.Time) (schedule.Event, error) {
		on := c.platformsOf(j)
		e, err := st.Schedule(now, j, plan, on, update)
		if err == nil && j.Platform == "" && len(on) == 0 {
			err = c.nowhere(st, j)
		}
		accepted = acceptedRuns(e.Tickets, e.Next)
		return e, err
	})
	if err != nil {
		return err
	}
	c.building.touch()
	return c.accept(accepted)
}

// mayDefine finds most refusals before the script is written.
func (c *clientSession) mayDefine(ctx context.Context, j job.Job, plan job.Plan, update bool) error {
	j.Script.Size = 1 // some script
	var refusal error
	err := c.owner.look(ctx, func(st *schedule.State) {
		_, refusal = st.Schedule(time.Now(), j, plan, nil, update)
	})
	return errors.Join(err, refusal)
}

func acceptedRuns(tickets []schedule.Ticket, next time.Time) wire.Accepted {
	m := wire.Accepted{Next: next}
	for _, t := range tickets {
		m.Runs = append(m.Runs, wire.RunRef{ID: t.Run, Platform: t.Platform})
	}
	return m
}

// accept tells a client of ours what came of its request.
func (c *clientSession) accept(m wire.Accepted) error {
	if !c.own {
		return nil
	}
	return c.send(m)
}

func (c *clientSession) unschedule(ctx context.Context, name string) error {
	err := c.change(ctx, func(st *schedule.State, _ time.Time) (schedule.Event, error) {
		return st.Unschedule(name)
	})
	c.building.touch()
	return err
}

func (c *clientSession) execute(ctx context.Context, m wire.Execute) error {
	platform := ""
	if m.Platform != nil {
		platform = *m.Platform
	}
	var accepted wire.Accepted
	err := c.change(ctx, func(st *schedule.State, now time.Time) (schedule.Event, error) {
		var on []string
		if entry := st.Entry(m.Name); entry != nil {
			on = c.platformsOf(entry.Job)
			accepted.Next = entry.Next
		}
		e, err := st.Execute(now, m.Name, platform, on)
		accepted = acceptedRuns(e.Tickets, accepted.Next)
		return e, err
	})
	if err != nil {
		return err
	}
	return c.accept(accepted)
}

func (c *clientSession) reschedule(ctx context.Context, m wire.Reschedule) error {
	var plan *job.Plan
	if m.Period != nil {
		plan = &job.Plan{Period: *m.Period}
	}
	var next time.Time
	err := c.change(ctx, func(st *schedule.State, _ time.Time) (schedule.Event, error) {
		if m.Next.IsZero() {
			m.Next = m.Next.Add(1) // the year 1 is a time to the peer, to us it is none
		}
		e, err := st.Reschedule(m.Name, m.Next, plan)
		next = e.Next
		return e, err
	})
	if err != nil {
		return err
	}
	return c.accept(wire.Accepted{Next: next})
}

// cancel ends a job's queued runs and its builds, or one build.
func (c *clientSession) cancel(ctx context.Context, m wire.Cancel) error {
	result := job.Failure(job.Cancelled, "cancelled")
	if m.Reason != "" {
		result.Text += ": " + shorten(m.Reason)
	}
	known, dequeued, stopped := false, false, false
	var found []*live
	err := c.owner.change(ctx, func(st *schedule.State, _ time.Time) ([]schedule.Event, error) {
		known = st.Entry(m.What) != nil
		e, queued := st.CancelJob(m.What)
		dequeued = queued
		found = c.building.all(func(l *live) bool { return l.Run.Job.Name == m.What })
		if len(found) == 0 && !queued {
			found = c.building.begunWith(m.What)
			if len(found) > 1 {
				return nil, fmt.Errorf("%q begins the uuid of %d builds that run: type more of it", m.What, len(found))
			}
		}
		var events []schedule.Event
		for _, l := range found {
			// Here, in the owner's turn: the end of a build that is decided later
			// knows that its run must not be tried again.
			l.cancel(result)
			stopped = true
			if wish, first, err := st.Wish(l.UUID, result); err == nil && first {
				events = append(events, wish)
			}
		}
		if queued {
			events = append(events, e)
		}
		return events, nil
	})
	switch {
	case err != nil && stopped:
		return fmt.Errorf("builds that run are stopped, but a server that starts before they have ended would not know: %w", err)
	case err != nil:
		return err
	}
	c.building.touch()
	switch {
	case dequeued || len(found) > 0:
		return nil
	case known:
		return fmt.Errorf("job %q is neither queued nor running", m.What)
	}
	if id, err := c.store.Resolve(m.What); err == nil {
		return fmt.Errorf("build %v: %s", id, c.overText(id))
	}
	return fmt.Errorf("no job, and no build that runs, is called %q", m.What)
}
