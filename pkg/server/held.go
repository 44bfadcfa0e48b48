package server

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/life"
	"builder/pkg/schedule"
	"builder/pkg/wire"
)

// held is a build on a worker that can come back. It belongs to no connection: a
// goroutine of its own conducts it from the hand-out to its durable end, and is
// woken by whatever happens to it. What follows from that is told by package life.
type held struct {
	*build
	worker string    // its identity
	left   bool      // by the last server
	asked  time.Time // when contents were asked for first; zero if none were lacking. Who conducts the build knows

	mu        sync.Mutex
	link      *link                  // the worker's connection, nil while it is away
	heard     time.Time              // when the newest connection began on which the worker had it
	unheard   bool                   // the worker never got it
	condemned *job.Result            // the worker broke the rules
	told      *link                  // the connection on which it was told to stop
	stopped   time.Time              // when it was first told
	decided   time.Time              // when the result was fixed
	result    job.Result             // as the worker says, or as decided; with offered or decided
	done      *wire.Done             // as it came last, until it is offered
	said      *job.Result            // as the worker says on this connection
	offered   bool                   // the store knows the artifacts
	arrived   time.Time              // the last sign of what was lacking: octets of it, or lines
	seen      map[job.Content]string // the conductor's: contents that lie in a store elsewhere, and where
	delivery  *delivery              // the connection over which contents come, nil if none does
	next      int64                  // number of the next line
	over      bool                   // nothing may be added any more
	news      chan struct{}
	settled   chan struct{} // closed when it has ended, durably
}

// hold begins a build that was handed out to a link.
func (s *Server) hold(ctx context.Context, b *schedule.Building, l *link) {
	h := &held{build: s.newBuild(b), worker: b.WorkerID, link: l, heard: l.began, news: make(chan struct{}, 1), settled: make(chan struct{})}
	s.crew.begin(ctx, h)
}

// resumeBuild goes on with a build after a restart of the server. Its worker is
// away, and has all the patience that one gets from now on.
func (s *Server) resumeBuild(b *schedule.Building) *held {
	h := &held{build: s.newBuild(b), worker: b.WorkerID, left: true, news: make(chan struct{}, 1), settled: make(chan struct{})}
	h.script = b.Script()
	h.setAway(time.Now())
	if b.Wish != nil {
		h.cancel(*b.Wish)
	}
	if b.Decided != nil {
		h.decided, h.result = b.DecidedAt, *b.Decided
	}
	return h
}

// reopen goes on with what the last server left of the build. Its worker waits for
// that; with a full disk, until there is room. It is false when the server ends.
func (h *held) reopen(ctx context.Context) bool {
	defer close(h.begun)
	return h.retry(ctx, "going on with a build that was left running", func() error {
		draft, err := h.store.Resume(h.Run.Job.Name, h.UUID)
		if err != nil {
			return err
		}
		h.draft, h.console = draft, draft.Console()
		h.next = h.console.Lines()
		return nil
	}) == nil
}

// wake makes the conductor look again.
func (h *held) wake() {
	select {
	case h.news <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// attach makes l the way to the worker, and returns the number of the next line.
// ok is false when the build is being ended.
func (h *held) attach(l *link) (next int64, ok bool) {
	<-h.begun
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return 0, false
	}
	h.link, h.heard = l, l.began
	h.offered, h.said = false, nil // Done comes again
	h.setAway(time.Time{})
	h.wake()
	return h.next, true
}

// newer reports whether the worker had the build on a newer connection than l.
func (h *held) newer(l *link) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard.After(l.began)
}

// detach is the end of l.
func (h *held) detach(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.link == l {
		h.link = nil
		h.setAway(time.Now())
		h.wake()
	}
}

// neverHeard: the worker says by its silence that it does not hold the build.
func (h *held) neverHeard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unheard = true
	h.wake()
}

// condemn ends a build whose worker broke the rules.
func (h *held) condemn(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.condemned == nil {
		result := life.Lost(cause)
		h.condemned = &result
	}
	h.wake()
}

// conduct does the build up to its durable end, or to that of the server.
func (h *held) conduct(ctx context.Context) {
	if h.left {
		if !h.reopen(ctx) {
			return
		}
	} else {
		switch step, ok := h.handOut(ctx); {
		case !ok:
			return // nobody has heard of it: the next server hands the run out again
		case step.End != nil:
			h.finish(ctx, step)
			return
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	stopping := h.stopping.Done()
	policy := life.Policy{Limits: h.limits, WorkerGrace: h.WorkerGrace, CollectTimeout: h.CollectTimeout}
	for {
		select {
		case <-ctx.Done():
			h.close()
			h.suspend() // the next server goes on
			return
		case <-stopping:
			stopping = nil
		case <-h.news:
		case <-timer.C:
		}
		h.offer(ctx)
		h.tellStop()
		step := h.look().Next(policy, time.Now())
		switch {
		case step.End != nil:
			h.finish(ctx, step)
			return
		case step.Decide != nil:
			if !h.decide(ctx, *step.Decide) {
				continue // the server ends
			}
			h.wake()
		case step.Overdue:
			h.cancel(job.Failure(job.Timeout, "timeout: the build took longer than %v, and its worker did not end it", h.limits.Timeout))
		}
		timer.Reset(max(0, step.Wait))
	}
}

// handOut sends the build to the worker and makes its place in the store: the
// worker gets ready meanwhile. The step is the end of a build that could not begin;
// ok is false when the server ends.
func (h *held) handOut(ctx context.Context) (step life.Step, ok bool) {
	text, noScript := h.prepare(ctx)
	if halted(ctx, noScript) {
		close(h.begun)
		return step, false
	}
	unsent := errors.New("its connection ended before it was handed the build")
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if noScript == nil && l != nil {
		noScript = h.tooOld(workerProgram(l.peer), l.peer.Can(wire.CapResources))
	}
	if noScript == nil && l != nil {
		unsent = l.conn.Send(wire.Start{Build: buildStatus(h.Building), Script: text, Limits: h.limits, Resources: h.Run.Job.Resources})
	}
	var result job.Result
	err := h.begin()
	switch {
	case err != nil:
		result = job.Failure(job.ServerSide, "the server could not begin the build: %v", err)
	case noScript != nil:
		result = unprepared(noScript)
	case unsent != nil:
		h.neverHeard()
		result = life.Lost(unsent)
		return life.Step{End: &result, Uncounted: true}, true
	default:
		h.log.Info().Msg("build handed out")
		return step, true
	}
	return life.Step{End: &result}, true
}

// begin is build.begin for one that others know of already.
func (h *held) begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.build.begin()
}

// lines takes console lines. What is there already came twice. After the end of the
// script they say that contents are on their way to where this server sees nothing.
func (h *held) lines(m wire.Lines) error {
	<-h.begun
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.console == nil {
		return nil // it is told so, or will be
	}
	if h.offered {
		h.arrived = time.Now()
	}
	skip, ok := life.Skip(h.next, m.From)
	if !ok {
		return violation("lines of build %v from %d on, %d are there", h.UUID, m.From, h.next)
	}
	for _, line := range m.Lines {
		n := line.Count()
		switch {
		case line.Flags&job.Partial != 0:
			h.console.SetPartial(line.Data, line.Delta)
			continue
		case skip >= n:
			skip -= n
			continue
		case skip > 0:
			line, n, skip = line.From(skip), n-skip, 0
		}
		h.console.Append(line) //nolint:errcheck // sticky; Commit reports it
		h.next += n
	}
	if size := h.console.Size(); size > h.limits.MaxConsole+consoleSlack {
		return violation("the console has %d octets, %d are allowed", size, h.limits.MaxConsole)
	}
	return nil
}

// consoleSlack is what a worker may print beyond the limit, which it keeps itself.
const consoleSlack = 16 << 20

// flush shows observers what has come.
func (h *held) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.console != nil && !h.over {
		h.console.Flush() //nolint:errcheck // sticky; Commit reports it
	}
}

// ended takes the end of the script. It is not taken when the build has ended
// without it.
func (h *held) ended(m wire.Done) (taken bool, err error) {
	<-h.begun
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.settled:
		return false, nil
	default:
	}
	size := int64(0)
	for _, a := range m.Artifacts {
		size += min(a.Size, math.MaxInt64-size)
	}
	switch {
	case m.Lines != h.next && !h.over && h.console != nil:
		return false, violation("build %v ended after %d lines, %d have come", h.UUID, m.Lines, h.next)
	case size > h.limits.MaxArtifacts:
		return false, violation("build %v offers artifacts of %d octets, %d are allowed", h.UUID, size, h.limits.MaxArtifacts)
	}
	said := m.Result
	h.done, h.said = &m, &said
	h.wake()
	return true, nil
}

// settle is the last that happens to h: its end is durable. The worker is told, if
// it is there: what became of the end that it said, or that it must stop.
func (h *held) settle() {
	h.mu.Lock()
	close(h.settled)
	said, l, unheard := h.said, h.link, h.unheard
	h.mu.Unlock()
	if l != nil {
		l.answer(h.UUID, h.live.build.Result, said, unheard)
	}
}

// offer tells the store what the worker offers, and the worker whether anything
// of it is wanted.
func (h *held) offer(ctx context.Context) {
	h.mu.Lock()
	done, l := h.done, h.link
	h.done = nil
	h.mu.Unlock()
	if done == nil {
		return
	}
	h.see(ctx, done)
	if err := h.draft.Offer(done.Artifacts); err != nil {
		h.log.Error().Err(err).Msg("taking the offer of artifacts")
	}
	lacking := len(h.draft.Lacking()) > 0
	h.mu.Lock()
	h.offered, h.arrived, h.notes, h.place = true, time.Now(), done.Notes, done.Place
	if h.decided.IsZero() {
		h.result = done.Result
	}
	if done.Duration > 0 && done.Duration <= time.Since(h.Started) {
		h.duration = done.Duration
	}
	h.mu.Unlock()
	if lacking && l != nil {
		if h.asked.IsZero() {
			h.asked = time.Now()
		}
		l.send(wire.Want{UUID: h.UUID})
	}
}

// tellStop tells a worker that is there, once on each connection.
func (h *held) tellStop() {
	wish := h.wish()
	h.mu.Lock()
	l := h.link
	tell := wish != nil && l != nil && h.told != l && !h.offered
	if tell {
		h.told = l
		if h.stopped.IsZero() {
			h.stopped = time.Now()
		}
	}
	h.mu.Unlock()
	if tell {
		h.log.Info().Stringer("result", *wish).Msg("stopping build")
		l.send(wire.Stop{UUID: h.UUID, Result: *wish})
	}
}

// look is what is known now.
func (h *held) look() life.Build {
	wish := h.wish()
	h.mu.Lock()
	defer h.mu.Unlock()
	return life.Build{
		Started: h.Started, Connected: h.link != nil, Away: h.awaySince(), Unheard: h.unheard, Condemned: h.condemned,
		Wish: wish, Told: h.stopped, Offered: h.offered, Lacking: len(h.draft.Lacking()) > 0,
		Result: h.result, Arrived: h.arrived, Decided: h.decided,
	}
}

// decide fixes the result, durably. It is false when the server ends.
func (h *held) decide(ctx context.Context, result job.Result) bool {
	err := h.retry(ctx, "deciding the build", func() error {
		return h.owner.change(ctx, func(st *schedule.State, now time.Time) ([]schedule.Event, error) {
			e, err := st.Decide(now, h.UUID, result)
			if err != nil {
				return nil, err
			}
			return []schedule.Event{e}, nil
		})
	})
	if err != nil {
		return false
	}
	h.log.Info().Stringer("result", result).Msg("build decided")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decided, h.result = time.Now(), result
	return true
}

// close stops everybody else from adding to the build.
func (h *held) close() {
	h.mu.Lock()
	h.over = true
	d := h.delivery
	h.mu.Unlock()
	if d != nil {
		d.conn.Close()
		<-d.ended
	}
}

// suspend leaves the build to the next server.
func (h *held) suspend() {
	if h.draft == nil {
		return
	}
	if err := h.draft.Suspend(); err != nil {
		h.log.Error().Err(err).Msg("leaving the build to the next server")
	}
}

// finish makes the end durable.
func (h *held) finish(ctx context.Context, step life.Step) {
	h.close()
	if !h.asked.IsZero() && h.place.Kind != "" {
		h.place.Add("deliver", time.Since(h.asked)) // the worker can not know when it says how the build ended
	}
	if h.draft != nil {
		for _, lacking := range h.draft.Lacking() {
			h.draft.Drop(lacking.Content, "the worker did not deliver it")
		}
	}
	h.mu.Lock()
	if !h.decided.IsZero() && !h.offered && !h.unheard {
		// What the worker offered before is known to a server that has ended.
		h.notes = append(h.notes, "the artifacts are lacking, if there were any: the worker was away when the build ended")
	}
	h.mu.Unlock()
	stopped := h.left && h.condemned == nil && step.End.WorkerEnded() && slices.Contains(h.Stopped, h.worker)
	if err := h.end(ctx, *step.End, step.Uncounted || stopped); err != nil && !errors.Is(err, schedule.ErrEnded) {
		h.suspend() // the server ends
	}
}
