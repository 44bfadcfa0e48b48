package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"builder/pkg/job"
)

// plan is what happens in a round, all of it drawn from a seed.
type plan struct {
	seed  uint64
	jobs  []order
	steps []step
}

// order is a job that somebody wants.
type order struct {
	job     job.Job
	payload payload
}

// step is one thing that happens.
type step struct {
	at     time.Duration // since the round's beginning
	what   string
	target int           // which of those that there are then
	takes  time.Duration // for
	dice   int
}

func (s step) String() string {
	return fmt.Sprintf("%7v %s %d for %v (%d)", s.at.Round(time.Millisecond), s.what, s.target, s.takes.Round(time.Millisecond), s.dice)
}

const platform = "torture"

// few is how many jobs there are of which only some builds are kept.
const few = 20

// newPlan draws a plan: jobs are wanted in the first part of the time, faults
// happen in all of it.
func newPlan(seed uint64, takes time.Duration, jobs int, ledger string) plan {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it must repeat
	p := plan{seed: seed}
	busy := takes * 2 / 3
	wanted := make([]time.Duration, jobs)
	for i := range jobs {
		p.jobs = append(p.jobs, newOrder(i, random, ledger))
		wanted[i] = rand64(random, busy)
		p.add(step{at: wanted[i], what: schedules, target: i})
	}
	for _, w := range []struct {
		what  string
		count int
	}{
		{executes, jobs / 2},
		{follows, jobs / 8},
		{observes, jobs / 8},
		{cancels, jobs / 10},
		{pins, jobs / 8},
		{ages, jobs / 16},
		{prunes, jobs / 10},
		{verifies, jobs / 40},
		{downloads, jobs / 16},
	} {
		for range w.count {
			i := random.IntN(jobs)
			if w.what == executes && random.IntN(2) == 0 {
				i %= few // so that some have many builds, of which few are kept
			}
			p.add(step{at: wanted[i] + rand64(random, takes-wanted[i]), what: w.what, target: i, dice: random.IntN(1000)})
		}
	}
	for at := time.Second; at < takes; at += gap(random) {
		p.add(newFault(at, random))
	}
	slices.SortStableFunc(p.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return p
}

func (p *plan) add(s step) { p.steps = append(p.steps, s) }

func rand64(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}

// gap is the time between two faults.
func gap(random *rand.Rand) time.Duration {
	return time.Duration(random.ExpFloat64() * float64(250*time.Millisecond))
}

// print writes the plan down.
func (p plan) print(w io.Writer) error {
	for _, o := range p.jobs {
		if _, err := fmt.Fprintf(w, "%s %+v %+v\n", o.job.Name, o.job.Limits, o.payload); err != nil {
			return err
		}
	}
	for _, s := range p.steps {
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	return nil
}
