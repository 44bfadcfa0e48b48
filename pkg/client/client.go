// Package client asks a server: one method for each thing that a person can
// ask, for the command line and for tests. It prints nothing.
//
// A server of our own version is asked over one connection, as often as wanted;
// one of the reference's protocol over a new connection each time, and it can
// not be asked everything: then the error is a [*CannotError].
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"
)

// Client is a client of one server. Not safe for concurrent use. Close it.
type Client struct {
	address string
	dialer  wire.Dialer
	conn    *wire.Conn // nil when the next request needs a new one
	remote  wire.Remote
	beat    time.Duration
	pause   time.Duration
}

// Options are what may differ; the zero value is usable.
type Options struct {
	Program  string // version, told to the server
	Protocol int    // forces a protocol version; 0 tries ours, then the reference's
	// KeepAlive is how often the client and a server of ours tell each other that
	// they are there, if nothing else is to be said; who says nothing for three
	// times as long is taken for lost. 0 means 15 seconds.
	KeepAlive time.Duration
	// Pause is the time before a watch that lost its connection makes another one;
	// it grows with each attempt. 0 means 1 second.
	Pause time.Duration
}

// New makes a client of the server at address, "host:port" ([wire.Address] makes
// one of what a person typed). It connects when first asked.
func New(address string, o Options) *Client {
	beat := cmp.Or(o.KeepAlive, 15*time.Second)
	introduce := wire.Introduce{Program: o.Program, Capabilities: []string{wire.CapAlive}, Beat: beat}
	return &Client{
		address: address,
		dialer:  wire.Dialer{Role: wire.Client, Force: o.Protocol, Introduce: introduce},
		beat:    beat,
		pause:   cmp.Or(o.Pause, time.Second),
	}
}

// Close closes the connection.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn = nil
	return conn.Close()
}

// CannotError says that a server can not be asked that in the reference's
// protocol. [Client.Cannot] makes one.
type CannotError struct {
	What   string
	Forced bool // whether it knows another protocol was not tried
}

// Error implements error.
func (e *CannotError) Error() string {
	if e.Forced {
		return "protocol 13 was forced (--protocol 13): by that a server can not " + e.What
	}
	return "this server speaks protocol 13 only: it can not " + e.What
}

// Cannot says that the server can not do that; c has found that it speaks, or was
// told to speak, the reference's protocol.
func (c *Client) Cannot(what string) *CannotError {
	return &CannotError{What: what, Forced: c.dialer.Force == wire.ClientVersion}
}

// RefusedError is a server's Failure.
type RefusedError struct{ Text string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Text }

// connect sees to it that there is a connection.
func (c *Client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	conn, remote, err := c.dialer.Dial(ctx, c.address)
	if err != nil {
		return err
	}
	c.conn, c.remote = conn, remote
	if remote.Own() {
		c.dialer.KnownOwn = true
	}
	if remote.Can(wire.CapAlive) {
		conn.KeepAlive(wire.Beat(c.beat, remote.Beat), wire.Patience*c.beat)
	}
	return nil
}

// Own reports whether the server speaks our own version; it connects to find out,
// unless it did before.
func (c *Client) Own(ctx context.Context) (bool, error) {
	if c.remote.Version == 0 {
		if err := c.connect(ctx); err != nil {
			return false, err
		}
	}
	return c.remote.Own(), nil
}

// need returns an error unless the server has the capability; what is told to
// people when it has not.
func (c *Client) need(ctx context.Context, capability, what string) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	switch {
	case !c.remote.Own():
		return c.Cannot(what)
	case !c.remote.Can(capability):
		return fmt.Errorf("the server can not %s: it is %s and lacks %q, which this client, %s, asks for: upgrade the server to this version or later",
			what, c.remote.Program, capability, c.dialer.Introduce.Program)
	}
	return nil
}

// ask sends a request and gives the messages that come to each, until Success.
func (c *Client) ask(ctx context.Context, m wire.Message, each func(wire.Message) error, kinds ...wire.Kind) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	err := c.converse(ctx, m, each, append(kinds, wire.KindSuccess, wire.KindFailure))
	var refused *RefusedError
	if !c.remote.Own() || err != nil && !errors.As(err, &refused) {
		return errors.Join(err, c.Close())
	}
	return err
}

func (c *Client) converse(ctx context.Context, m wire.Message, each func(wire.Message) error, kinds []wire.Kind) error {
	if err := c.conn.Send(m); err != nil {
		return err
	}
	for {
		m, err := c.conn.Receive(ctx, kinds...)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("waiting for the server: %w", err)
		}
		switch m := m.(type) {
		case wire.Success:
			return nil
		case wire.Failure:
			return &RefusedError{m.Text}
		default:
			if err := each(m); err != nil {
				return err
			}
		}
	}
}

// order is a request that is answered by Accepted, from a server of ours, and
// Success.
func (c *Client) order(ctx context.Context, m wire.Message) (wire.Accepted, error) {
	var accepted wire.Accepted
	err := c.ask(ctx, m, func(m wire.Message) error {
		accepted = m.(wire.Accepted)
		return nil
	}, wire.KindAccepted)
	return accepted, err
}

// Schedule adds a job, or replaces its definition and plan with update. The
// script is that of a job without a template. From a reference server nothing
// but an error is learnt.
func (c *Client) Schedule(ctx context.Context, j job.Job, script []byte, plan job.Plan, update bool) (wire.Accepted, error) {
	own, err := c.Own(ctx)
	if err != nil {
		return wire.Accepted{}, err
	}
	bounded := j.Limits != job.Limits{} || j.Retries != job.Retries{}
	if j.Retention != (job.Retention{}) {
		if err := c.need(ctx, wire.CapRetention, "keep only some builds of a job"); err != nil {
			return wire.Accepted{}, err
		}
	}
	frugal := j.Resources != job.Resources{}
	if own {
		if frugal {
			if err := c.need(ctx, wire.CapResources, "bound what a job uses"); err != nil {
				return wire.Accepted{}, err
			}
		}
		if bounded {
			if err := c.need(ctx, wire.CapLimits, "keep limits and retries of a job"); err != nil {
				return wire.Accepted{}, err
			}
		}
		return c.order(ctx, wire.Define{Job: j, Script: script, Plan: plan, Update: update})
	}
	opamPackage, orb := j.IsOrbBuild()
	switch {
	case frugal:
		return wire.Accepted{}, c.Cannot("bound what a job uses")
	case bounded:
		return wire.Accepted{}, c.Cannot("keep limits and retries of a job")
	case update:
		return wire.Accepted{}, c.Cannot("replace a job's definition (unschedule it first)")
	case plan.Cron != "" || plan.Every != 0:
		return wire.Accepted{}, c.Cannot("plan by --every or --cron, only by --period")
	case orb:
		return c.order(ctx, wire.ScheduleOrb{Period: plan.Period, Name: j.Name, Package: opamPackage})
	case j.Template != "":
		return wire.Accepted{}, c.Cannot("build from templates other than orb-build")
	}
	return c.order(ctx, wire.Schedule{Period: plan.Period, Job: wire.ScriptJob{
		Name: j.Name, Platform: j.Platform, Script: wire.Blob{Data: script},
	}})
}

// Unschedule removes a job and its queued runs.
func (c *Client) Unschedule(ctx context.Context, name string) error {
	_, err := c.order(ctx, wire.Unschedule{Name: name})
	return err
}

// Execute asks for a run of a job, on one platform or ("") on all of its own.
func (c *Client) Execute(ctx context.Context, name, platform string) (wire.Accepted, error) {
	m := wire.Execute{Name: name}
	if platform != "" {
		m.Platform = &platform
	}
	return c.order(ctx, m)
}

// Reschedule sets the time that a job is due next, and its period unless nil.
func (c *Client) Reschedule(ctx context.Context, name string, next time.Time, period *job.Period) (wire.Accepted, error) {
	return c.order(ctx, wire.Reschedule{Name: name, Next: next, Period: period})
}

// DropPlatform pauses a platform.
func (c *Client) DropPlatform(ctx context.Context, platform string) error {
	_, err := c.order(ctx, wire.DropPlatform{Platform: platform})
	return err
}

// UndropPlatform brings a platform back.
func (c *Client) UndropPlatform(ctx context.Context, platform string) error {
	_, err := c.order(ctx, wire.UndropPlatform{Platform: platform})
	return err
}

// Cancel ends a job's queued runs and builds, or one build, by name or uuid.
func (c *Client) Cancel(ctx context.Context, what, reason string) error {
	if err := c.need(ctx, wire.CapCancel, "cancel"); err != nil {
		return err
	}
	_, err := c.order(ctx, wire.Cancel{What: what, Reason: reason})
	return err
}

// Status is the schedule, the queues, the workers and the builds that run. From
// a reference server it is what Info has of that: no run ids, no workers, jobs
// without their scripts.
func (c *Client) Status(ctx context.Context) (wire.StatusReply, error) {
	own, err := c.Own(ctx)
	if err != nil {
		return wire.StatusReply{}, err
	}
	if !own {
		info, err := c.info(ctx)
		return statusOf(info), err
	}
	var status wire.StatusReply
	err = c.ask(ctx, wire.Status{}, func(m wire.Message) error {
		status = m.(wire.StatusReply)
		return nil
	}, wire.KindStatusReply)
	return status, err
}

// Builds lists builds that have ended, the newest first; of one job, or of all.
func (c *Client) Builds(ctx context.Context, name string, limit int) ([]job.Build, error) {
	list, err := c.List(ctx, name, limit)
	return list.Builds, err
}

// List is Builds with what they came to, in the same order, and what is said about
// them beside their records; a server that can not tell leaves that out.
func (c *Client) List(ctx context.Context, name string, limit int) (wire.ListReply, error) {
	if err := c.need(ctx, wire.CapBuilds, "list builds that have ended"); err != nil {
		return wire.ListReply{}, err
	}
	var list wire.ListReply
	err := c.ask(ctx, wire.List{Job: name, Limit: int64(limit)}, func(m wire.Message) error {
		list = m.(wire.ListReply)
		return nil
	}, wire.KindListReply)
	if len(list.Outputs) != len(list.Builds) {
		list.Outputs = nil
	}
	return list, err
}

// Export copies a build's result file to out. After an error in the middle out
// has a part of it, or all of something that the server does not answer for.
func (c *Client) Export(ctx context.Context, what string, out io.Writer) error {
	if err := c.need(ctx, wire.CapBuilds, "export builds"); err != nil {
		return err
	}
	var size, copied int64
	err := c.ask(ctx, wire.Export{What: what}, func(m wire.Message) (err error) {
		conn, file := c.conn, m.(*wire.ReceivedExec)
		defer context.AfterFunc(ctx, func() { conn.Close() })() // a stream heeds no context
		size = file.Size
		copied, err = io.Copy(out, file.Data)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}, wire.KindExportReply)
	if size > 0 && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)) {
		return fmt.Errorf("the server broke off the result file after %d of %d octets; its log says why (%w)", copied, size, err)
	}
	return err
}

// statusOf shows what a reference server tells in our words.
func statusOf(info wire.InfoReply) wire.StatusReply {
	var s wire.StatusReply
	for _, item := range info.Schedule {
		js := wire.JobStatus{Job: jobOf(item.Job), Plan: job.Plan{Period: item.Period}, Next: item.Next}
		if item.Next.Year() >= wire.Never.Year() {
			js.Next = time.Time{}
		}
		s.Jobs = append(s.Jobs, js)
	}
	for _, queue := range info.Queues {
		p := wire.PlatformStatus{Name: queue.Platform}
		for _, j := range queue.Jobs {
			p.Queue = append(p.Queue, job.Run{Job: jobOf(j), Platform: queue.Platform})
		}
		s.Platforms = append(s.Platforms, p)
	}
	for _, name := range info.Dropped {
		i := slices.IndexFunc(s.Platforms, func(p wire.PlatformStatus) bool { return p.Name == name })
		if i < 0 {
			i = len(s.Platforms)
			s.Platforms = append(s.Platforms, wire.PlatformStatus{Name: name})
		}
		s.Platforms[i].Dropped = true
	}
	for _, running := range info.Running {
		s.Building = append(s.Building, wire.BuildStatus{
			UUID: running.UUID, Job: running.Job.Name, Platform: running.Job.Platform, Started: running.Started,
		})
	}
	return s
}

func jobOf(j wire.AnyJob) job.Job {
	if j.OrbPackage != nil {
		return job.OrbBuild(j.Name, *j.OrbPackage)
	}
	return job.Job{Name: j.Name, Platform: j.Platform, Script: job.ContentOf(j.Script.Data)}
}

// info asks for the reference's InfoReply.
func (c *Client) info(ctx context.Context) (wire.InfoReply, error) {
	var info wire.InfoReply
	err := c.ask(ctx, wire.Info{}, func(m wire.Message) error {
		info = m.(wire.InfoReply)
		return nil
	}, wire.KindInfoReply, wire.KindInfoReplyOld)
	return info, err
}

// running are the builds that a reference server says are running.
func (c *Client) running(ctx context.Context) ([]wire.BuildStatus, error) {
	info, err := c.info(ctx)
	return statusOf(info).Building, err
}
