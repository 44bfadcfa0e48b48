package main

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// What customers do.
const (
	schedules = "schedule"
	executes  = "execute"
	cancels   = "cancel"
	follows   = "follow"
	observes  = "observe"
)

// customer wants jobs built, and remembers what it was promised.
type customer struct {
	fleet   *fleet
	program string // of the payloads
	orders  []order

	mu        sync.Mutex
	promised  map[uint64]string // runs, with their jobs
	cancelled map[string]bool   // perhaps
}

func newCustomer(f *fleet, program string, orders []order) *customer {
	return &customer{
		fleet: f, program: program, orders: orders,
		promised: map[uint64]string{}, cancelled: map[string]bool{},
	}
}

// do does one step. What did not reach the server, or not come back, is as it
// may; schedule is done until it is certain.
func (c *customer) do(ctx context.Context, s step) (done bool, err error) {
	o := c.orders[s.target]
	switch s.what {
	case schedules:
		return true, c.schedule(ctx, o)
	case follows, observes:
		return c.fleet.watch(ctx, s.what, o.job.Name)
	}
	asked := c.fleet.client(false)
	defer asked.Close() //nolint:errcheck // nothing was kept back
	if s.what == cancels {
		c.mu.Lock()
		c.cancelled[o.job.Name] = true
		c.mu.Unlock()
		return asked.Cancel(ctx, o.job.Name, "torture") == nil, nil
	}
	return c.execute(ctx, asked, o.job.Name) == nil, nil
}

// schedule goes on until the job is in the schedule.
func (c *customer) schedule(ctx context.Context, o order) error {
	script, err := o.payload.script(c.program)
	if err != nil {
		return err
	}
	for ; ctx.Err() == nil; rest(ctx, beat/5) {
		asked := c.fleet.client(false)
		accepted, err := asked.Schedule(ctx, o.job, script, job.Plan{Period: job.Never}, false)
		asked.Close() //nolint:errcheck // nothing was kept back
		var refused *client.RefusedError
		switch {
		case err == nil:
			c.promise(o.job.Name, accepted)
		case errors.As(err, &refused) && strings.Contains(err.Error(), "already"):
			// The answer to an earlier attempt was lost.
		default:
			continue
		}
		return nil
	}
	return nil
}

func (c *customer) execute(ctx context.Context, asked *client.Client, name string) error {
	accepted, err := asked.Execute(ctx, name, "")
	if err == nil {
		c.promise(name, accepted)
	}
	return err
}

// promise notes that the server has said yes.
func (c *customer) promise(name string, accepted wire.Accepted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, run := range accepted.Runs {
		c.promised[run.ID] = name
	}
}

// promises is a copy of them.
func (c *customer) promises() map[uint64]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.promised)
}

// order is the one of that job.
func (c *customer) order(name string) (order, bool) {
	for _, o := range c.orders {
		if o.job.Name == name {
			return o, true
		}
	}
	return order{}, false
}
