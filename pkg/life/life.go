// Package life is the life of a build that outlives its connections, as the
// server sees it: what it knows, and what follows from that. It is pure: no
// clock, connection or file. Package server acts on what it says; the model in
// its tests has it meet a worker that may be killed, cut off and delayed at every
// step.
//
//	state        what is known                                 until
//	running      the worker is there                           its Done, or it is overdue
//	away         the worker is not there                       WorkerGrace
//	stopping     somebody wants its end, the worker is told    Done, or the grace and StopSlack
//	delivering   the worker said Done, contents are lacking    they have come, or nothing of them for CollectTimeout
//	decided      the result is fixed, contents are lacking     they have come, CollectTimeout, or the worker goes
//	ended        nothing can change it any more
package life

import (
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
)

// Policy is how patient the server is. All are positive.
type Policy struct {
	Limits         job.Limits    // of the build: Timeout and Grace count here
	WorkerGrace    time.Duration // for a worker that is away
	CollectTimeout time.Duration // for artifacts of a build whose result is fixed, and between octets of others
}

const (
	// StopSlack is what a worker may need beyond the grace to kill and to tell.
	StopSlack = 5 * time.Second
	// OverdueSlack is what it may need beyond the timeout, which it sees to itself:
	// to prepare a place, and to tell.
	OverdueSlack = 15 * time.Minute
	// Idle is how long nothing happens by itself.
	Idle = time.Hour
)

// Build is what the server knows of a build that runs.
type Build struct {
	Started time.Time
	// Connected: the worker is there and knows that it holds the build; else Away
	// is since when it is not.
	Connected bool
	Away      time.Time
	// Unheard: the worker never received the build.
	Unheard bool
	// Condemned is the end of a build whose worker broke the rules.
	Condemned *job.Result
	// Wish is the end that somebody wants, and Told when the worker heard of it.
	Wish *job.Result
	Told time.Time
	// Offered: the worker has said Done, with Result. Lacking: contents of its
	// artifacts are still to come.
	Offered, Lacking bool
	Result           job.Result
	// Arrived is when the last octet of them came, the worker last said that they are on
	// their way to a store elsewhere, or the offer came.
	Arrived time.Time
	// Decided is when Result was fixed, if it was.
	Decided time.Time
}

// Step is what is to be done. The zero Step is to wait for news.
type Step struct {
	End       *job.Result   // end the build now
	Uncounted bool          // that was no try
	Decide    *job.Result   // fix the result; artifacts may follow
	Overdue   bool          // the worker should have ended it: wish for its end
	Wait      time.Duration // look again after this, if nothing happens before
}

// Lost is the result of a build whose worker went.
func Lost(cause error) job.Result {
	return job.Failure(job.WorkerLost, "worker lost: %v", cause)
}

var errUnheard = errors.New("it never received the build")

// Next is what follows from b at now. The first end that it names is the build's.
func (b Build) Next(p Policy, now time.Time) Step {
	switch {
	case b.Condemned != nil:
		return Step{End: b.Condemned}
	case b.Unheard:
		return b.unheard()
	case b.Offered && !b.Lacking:
		result := b.outcome()
		return Step{End: &result}
	case !b.Decided.IsZero():
		left := b.Decided.Add(p.CollectTimeout).Sub(now)
		if !b.Connected || left <= 0 {
			return Step{End: &b.Result}
		}
		return Step{Wait: left}
	case b.Wish != nil:
		return b.stopping(p, now)
	case !b.Connected:
		left := b.Away.Add(p.WorkerGrace).Sub(now)
		if left <= 0 {
			result := b.lostAway(p)
			return Step{End: &result}
		}
		return Step{Wait: left}
	case b.Offered:
		left := b.Arrived.Add(p.CollectTimeout).Sub(now)
		if left <= 0 {
			return Step{End: &b.Result}
		}
		return Step{Wait: left}
	}
	// One after the other: the sum of two long ones is more than a Duration can be.
	left := b.Started.Add(p.Limits.Timeout).Add(p.Limits.Grace).Add(OverdueSlack).Sub(now)
	return Step{Wait: max(left, time.Second), Overdue: left <= 0}
}

// unheard is the end of a build that never began.
func (b Build) unheard() Step {
	switch {
	case !b.Decided.IsZero():
		return Step{End: &b.Result}
	case b.Wish != nil:
		return Step{End: b.Wish}
	}
	result := Lost(errUnheard)
	return Step{End: &result, Uncounted: true}
}

// stopping is Next for a build that somebody wants to end.
func (b Build) stopping(p Policy, now time.Time) Step {
	switch {
	case !b.Connected:
		return Step{End: b.Wish}
	case b.Offered:
		result := b.outcome()
		return Step{Decide: &result}
	case b.Told.IsZero():
		return Step{Wait: Idle} // it is about to be told
	}
	left := b.Told.Add(p.Limits.Grace).Add(StopSlack).Sub(now)
	if left <= 0 {
		return Step{Decide: b.Wish}
	}
	return Step{Wait: left}
}

// outcome is the result of a build whose script has ended: as the worker says,
// unless somebody wanted its end and the worker has no better reason.
func (b Build) outcome() job.Result {
	if b.Decided.IsZero() && b.Wish != nil && b.Result.Infrastructure() {
		return *b.Wish
	}
	return b.Result
}

// lostAway is the result of a build whose worker did not come back.
func (b Build) lostAway(p Policy) job.Result {
	if b.Offered {
		return Lost(fmt.Errorf("the build %v, but the worker went before its artifacts had come, and did not come back within %v", b.Result, p.WorkerGrace))
	}
	return Lost(fmt.Errorf("it did not come back within %v", p.WorkerGrace))
}
