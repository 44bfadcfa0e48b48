package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/schedule"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// owner is the one goroutine that changes the state. It works in turns: it
// takes what was asked for meanwhile, decides, hands out runs to waiting
// workers, makes all of it durable with one sync, and only then tells anyone.
//
//	requests ──▸ look: on synced state ──▸ decide + due + hand out ──▸ Append ──▸ answers
//	    ▲                                                                │ error: state is read
//	    └──────────────── timer: the next due time ──────────────────────┘ back from the disk
type owner struct {
	log       zerolog.Logger
	journal   *journal.Journal[*schedule.State]
	state     *schedule.State
	requests  chan *request
	pool      *pool
	platforms func(job.Job) []string
	// handedOut hears of every build when its hand-out is durable, before its
	// worker does.
	handedOut func(*schedule.Building)
	reserve   *reserve

	blocked    bool      // a run and a worker wait for room on the disk
	looked     time.Time // when the last turn began
	resting    time.Time // after a failed Append: no change of our own before it
	compacting chan error
	compactAt  time.Time     // after a failed compaction: none before it
	stopped    chan struct{} // closed when run has returned
}

// request is either a look or a change.
type request struct {
	look   func(*schedule.State)
	decide decision
	done   chan error
}

// decision looks at the state and returns the events that change it, or why
// it must not be changed.
type decision func(st *schedule.State, now time.Time) ([]schedule.Event, error)

const (
	// turnSize bounds how many requests share a sync.
	turnSize = 256
	// restTime is how long the owner leaves a disk alone that refused a write,
	// unless somebody asks for a change.
	restTime = time.Second
	// compactRest is the time between a compaction that failed and the next.
	compactRest = 10 * time.Second
	// clockCheck bounds the sleep, since timers do not see the clock being set.
	clockCheck = time.Minute
	// maxRecord bounds what one request may add to the journal, and maxDue what
	// comes due in one turn: all of a turn is one batch, which has a limit too.
	maxRecord = 48 << 10
	maxDue    = 1 << 20
)

// errStopped answers requests that came too late.
var errStopped = errors.New("the server is shutting down")

// run works until ctx is done. An error means that the state could not even be
// read back from the disk.
func (o *owner) run(ctx context.Context) error {
	defer close(o.stopped)
	defer o.finishCompaction()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var turn []*request
		select {
		case <-ctx.Done():
			return nil
		case r := <-o.requests:
			turn = o.gather(r)
		case <-timer.C:
		case err := <-o.compacting:
			o.compacting = nil
			o.compacted(err)
		}
		if err := o.turn(turn); err != nil {
			return err
		}
		timer.Reset(o.sleep(time.Now()))
	}
}

// gather takes what else was asked for meanwhile.
func (o *owner) gather(first *request) []*request {
	turn := []*request{first}
	for len(turn) < turnSize {
		select {
		case r := <-o.requests:
			turn = append(turn, r)
		default:
			return turn
		}
	}
	return turn
}

// sleep is how long nothing happens by itself.
func (o *owner) sleep(now time.Time) time.Duration {
	if o.looked.Before(o.resting) {
		return max(0, o.resting.Sub(now)) // there may be runs that were not handed out
	}
	wait := clockCheck
	if o.blocked {
		wait = reserveInterval
	}
	// What has come due since the last turn looked must not pass for seen.
	if next, ok := o.state.NextDue(o.looked); ok {
		wait = min(wait, max(0, next.Sub(now)))
	}
	return wait
}

// turn is one turn. Nothing of it is told to anyone before it is durable.
func (o *owner) turn(requests []*request) error {
	for _, r := range requests {
		if r.look != nil {
			r.look(o.state)
			r.done <- nil
		}
	}
	t := &turn{owner: o, now: time.Now()}
	o.looked = t.now
	for _, r := range requests {
		if r.decide != nil {
			t.decide(r)
		}
	}
	if !t.now.Before(o.resting) {
		t.due()
		t.handOut()
	}
	err := o.commit(t.records)
	for _, settle := range t.settle {
		settle(err)
	}
	if err != nil {
		t.takeBack()
		return o.recover(err)
	}
	o.compact()
	return nil
}

// commit makes the records durable.
func (o *owner) commit(records [][]byte) error {
	if len(records) == 0 {
		return nil
	}
	err := o.journal.Append(records...)
	switch {
	case errors.Is(err, journal.ErrUnknown):
		return fmt.Errorf("the change may be kept or not: %w", err)
	case err != nil:
		return fmt.Errorf("the change was not kept: %w", err)
	}
	return nil
}

// recover goes back to what is on the disk after a failed commit.
func (o *owner) recover(cause error) error {
	o.log.Error().Err(cause).Msg("journal refused a change")
	o.resting = time.Now().Add(restTime)
	state, err := o.journal.Reload()
	if err != nil {
		return fmt.Errorf("reading the state back: %w", err)
	}
	o.state = state
	return nil
}

// compact starts a compaction in the background when one is due.
func (o *owner) compact() {
	if o.compacting != nil || !o.journal.CompactDue() || o.looked.Before(o.compactAt) {
		return
	}
	o.compacting = make(chan error, 1)
	go func(done chan<- error) { done <- o.journal.Compact() }(o.compacting)
}

func (o *owner) compacted(err error) {
	if err != nil {
		o.log.Error().Err(err).Msg("compacting the journal")
		o.compactAt = time.Now().Add(compactRest) // hand-outs do not wait for it
	}
}

func (o *owner) finishCompaction() {
	if o.compacting != nil {
		o.compacted(<-o.compacting)
	}
}

// change has decide called in the next turn and returns when what it decided is
// durable, or with its error, or that of the disk.
func (o *owner) change(ctx context.Context, decide decision) error {
	return o.request(ctx, &request{decide: decide, done: make(chan error, 1)})
}

// look calls f with the state as it is durable. What it takes from it may be
// kept, the state itself may not.
func (o *owner) look(ctx context.Context, f func(*schedule.State)) error {
	return o.request(ctx, &request{look: f, done: make(chan error, 1)})
}

func (o *owner) request(ctx context.Context, r *request) error {
	select {
	case o.requests <- r:
	case <-o.stopped:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// From here on the answer is waited for: a change that was asked for may be
	// made, whoever has lost patience meanwhile.
	select {
	case err := <-r.done:
		return err
	case <-o.stopped:
	}
	select {
	case err := <-r.done: // in the last turn
		return err
	default:
		return errStopped
	}
}

// turn is what one turn of the owner gathers.
type turn struct {
	*owner
	now     time.Time
	records [][]byte
	octets  int // of the records
	// settle is called with the commit's error when that is known.
	settle []func(error)
	given  []*waiter // workers that were given a run, in that order
}

// advance applies an event that was decided on this very state.
func (t *turn) advance(e schedule.Event) {
	if err := t.state.Advance(e); err != nil {
		panic(fmt.Sprintf("server: an event does not fit the state it was decided on: %v", err))
	}
	record := schedule.Encode(e)
	t.records = append(t.records, record)
	t.octets += len(record)
}

// decide serves one request. Its answer waits for the commit even when it is a
// refusal: that may tell of a change before it in the same turn.
func (t *turn) decide(r *request) {
	events, err := r.decide(t.state, t.now)
	if err == nil {
		err = checkSize(events)
	}
	if err == nil {
		for _, e := range events {
			t.advance(e)
		}
	}
	t.settle = append(t.settle, func(commit error) {
		r.done <- errors.Join(err, commit)
	})
}

// checkSize refuses what would take up the batch of everybody else.
func checkSize(events []schedule.Event) error {
	size := 0
	for _, e := range events {
		size += len(schedule.Encode(e))
	}
	if size > maxRecord {
		return fmt.Errorf("this takes %d octets in the schedule, %d are allowed", size, maxRecord)
	}
	return nil
}

// due queues what has come due; a further turn follows at once when that is more
// than fits into one.
func (t *turn) due() {
	begin := t.octets
	platforms := map[string][]string{} // of templates: each is looked up once
	on := func(j job.Job) []string {
		if _, known := platforms[j.Template]; !known {
			platforms[j.Template] = t.platforms(j)
		}
		return platforms[j.Template]
	}
	for _, e := range t.state.Due(t.now, on) {
		if t.octets-begin > maxDue {
			return
		}
		t.advance(e)
	}
}

// handOut gives runs to waiting workers, the longest-waiting one first, while there is
// room on the disk.
func (t *turn) handOut() {
	t.blocked = false
	for platform := range t.pool.platforms() {
		for t.state.Ready(platform, t.now) {
			w := t.pool.first(platform)
			if w == nil {
				break
			}
			if t.blocked = t.reserve.check(t.now) != ""; t.blocked {
				return
			}
			t.pool.remove(w)
			if w.gone() {
				continue // its session is about to notice
			}
			id := uuid.New()
			e, ok := t.state.HandOut(t.now, platform, w.worker, w.identity, id)
			if !ok {
				panic("server: no run for platform " + platform + ", which has one ready")
			}
			t.advance(e)
			t.given = append(t.given, w)
			building := t.state.Building(id)
			t.settle = append(t.settle, func(commit error) {
				if commit == nil {
					t.handedOut(building)
					w.given(building)
				}
			})
		}
	}
}

// takeBack puts the workers back where they waited, after a failed commit.
func (t *turn) takeBack() {
	for _, w := range slices.Backward(t.given) {
		t.pool.putBack(w)
	}
}
