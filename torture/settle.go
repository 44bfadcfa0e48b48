package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/wire"
)

// patience is how long all may take to come to rest.
const patience = 90 * time.Second

// settle waits until nothing is left to do. It reports false if that does not
// happen.
func (r *round) settle(ctx context.Context) bool {
	begun := time.Now()
	straight := r.fleet.client(true)
	defer straight.Close() //nolint:errcheck // nothing was kept back
	busy := ""
	log, err := os.Create(filepath.Join(r.dir, "logs", "settling"))
	if err != nil {
		r.find("%v", err)
		return false
	}
	defer log.Close()
	for time.Since(begun) < patience {
		if err := r.fleet.start(); err != nil { // the worker that does one build at a time
			r.find("%v", err)
			return false
		}
		if busy = r.busy(ctx, straight); busy == "" {
			r.quiet = time.Since(begun)
			return true
		}
		fmt.Fprintf(log, "%v: %s\n", time.Since(begun), busy)
		rest(ctx, 100*time.Millisecond)
	}
	r.find("all should be at rest after %v: %s", patience, busy)
	return false
}

// busy is what is still going on, "" when nothing is. Runs that wait are told to
// go on, as impatient people do.
func (r *round) busy(ctx context.Context, straight *client.Client) string {
	status, err := straight.Status(ctx)
	if err != nil {
		return fmt.Sprintf("asking the server: %v", err)
	}
	var busy []string
	for _, j := range status.Jobs {
		if j.Parked {
			busy = append(busy, "job "+j.Job.Name+" is parked")
			if err := r.customer.execute(ctx, straight, j.Job.Name); err != nil {
				r.find("executing the parked job %s: %v", j.Job.Name, err)
			}
		}
	}
	for _, p := range status.Platforms {
		for _, run := range p.Queue {
			busy = append(busy, fmt.Sprintf("run %d of %s is queued", run.ID, run.Job.Name))
			if !run.After.IsZero() {
				straight.Execute(ctx, run.Job.Name, "") //nolint:errcheck // it is asked again
			}
		}
	}
	for _, b := range status.Building {
		busy = append(busy, fmt.Sprintf("build %v of %s is on %s, away since %v", b.UUID, b.Job, b.Worker, b.Away))
	}
	busy = append(busy, r.waiting(ctx, straight)...)
	for _, w := range r.fleet.workers {
		held, err := w.held()
		if err != nil {
			busy = append(busy, err.Error())
		}
		for _, name := range held {
			busy = append(busy, w.name+" has "+name)
		}
	}
	for _, w := range r.fleet.watchers {
		if w.running() {
			busy = append(busy, w.name+" has not ended: "+strings.Join(w.args, " "))
		}
	}
	for _, left := range remains("/nowhere", r.fleet.mark) {
		busy = append(busy, "process "+left)
	}
	return strings.Join(busy, "; ")
}

// waiting is what is in the outbox, which is sent at once.
func (r *round) waiting(ctx context.Context, straight *client.Client) []string {
	outbox, err := straight.Outbox(ctx, "", 0)
	if err != nil {
		return []string{fmt.Sprintf("asking for the outbox: %v", err)}
	}
	var busy []string
	for _, p := range outbox.Posts {
		busy = append(busy, fmt.Sprintf("build %v of %s is not delivered to %s: %s%s", p.UUID, p.Job, p.Remote, p.Parked, p.Error))
	}
	if len(busy) > 0 {
		straight.OutboxChange(ctx, wire.OutboxChange{Action: wire.OutboxRetry}) //nolint:errcheck // it is asked again
	}
	return busy
}
