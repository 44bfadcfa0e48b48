package server_test

import (
	"context"
	"strings"
	"sync"
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

// TestGiveWay: where there are as many connections as may be, clients that are
// idle give way to newcomers, and are told. Who waits for something stays.
func TestGiveWay(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Sessions = 5 })
	worker := r.requested(wire.OwnVersion, "p")
	idle := []*peer{r.polite()}
	idle[0].send(wire.Define{Job: job.Job{Name: "one", Platform: "other"}, Script: []byte("x")})
	run := idle[0].receive(wire.KindAccepted).(wire.Accepted).Runs[0]
	idle[0].receive(wire.KindSuccess)
	watcher := r.dial(wire.Client, wire.OwnVersion)
	watcher.send(wire.Watch{Run: run.ID, Job: "one"})
	for range 5 {
		idle = append(idle, r.polite())
	}
	last := r.polite()
	told, stop := context.WithCancel(t.Context())
	failures := make(chan string, len(idle))
	var listening sync.WaitGroup
	for _, p := range idle {
		listening.Go(func() {
			if m, err := p.Receive(told, wire.KindFailure); err == nil {
				failures <- m.(wire.Failure).Text
			}
		})
	}
	wait(t, "four of seven give way", func() bool { return len(failures) >= 4 })
	last.send(wire.Define{Job: job.Job{Name: "two", Platform: "p"}, Script: []byte("x")})
	last.receive(wire.KindAccepted)
	if got := worker.begin().Build.Job; got != "two" {
		t.Errorf("the worker is given %q", got)
	}
	last.receive(wire.KindSuccess)
	last.send(wire.Cancel{What: "one"})
	last.receive(wire.KindSuccess)
	watcher.receive(wire.KindFailure) // its run was cancelled
	stop()
	listening.Wait()
	if len(failures) != 4 {
		t.Errorf("%d gave way", len(failures))
	}
	for range len(failures) {
		if text := <-failures; !strings.Contains(text, "connect again") {
			t.Errorf("told %q", text)
		}
	}
}
