package server_test

import (
	"testing"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"
)

// polite is a client that has asked something, and keeps its connection.
func (r *running) polite() *peer {
	r.t.Helper()
	p := r.dial(wire.Client, wire.OwnVersion)
	p.send(wire.List{})
	p.receive(wire.KindListReply)
	p.receive(wire.KindSuccess)
	return p
}

// TestGiveWay: where there are as many connections as may be, the client that has
// been idle longest gives way to a newcomer, and is told. Who waits for something
// stays.
func TestGiveWay(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Sessions = 5 })
	run := r.schedule("one", "other", "x").Runs[0] // by a client that is the first to be idle
	worker := r.requested(wire.OwnVersion, "p")
	watcher := r.dial(wire.Client, wire.OwnVersion)
	watcher.send(wire.Watch{Run: run.ID, Job: "one"})
	idle := []*peer{r.polite(), r.polite()}
	for range 4 {
		idle = append(idle, r.polite())
	}
	if _, err := r.client().Status(t.Context()); err == nil {
		t.Error("the client that was idle first did not give way")
	}
	for i, p := range idle[:3] {
		if m, ok := p.receive(wire.KindFailure).(wire.Failure); !ok || m.Text == "" {
			t.Errorf("idle client %d is told %+v", i, m)
		}
		p.gone()
	}
	last := idle[len(idle)-1]
	last.send(wire.Define{Job: job.Job{Name: "two", Platform: "p"}, Script: []byte("x")})
	last.receive(wire.KindAccepted)
	if got := worker.begin().Build.Job; got != "two" {
		t.Errorf("the worker is given %q", got)
	}
	last.receive(wire.KindSuccess)
	last.send(wire.Cancel{What: "one"})
	last.receive(wire.KindSuccess)
	watcher.receive(wire.KindFailure) // its run was cancelled
}
