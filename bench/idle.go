package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// idleWorkers measures what workers cost that wait.
func idleWorkers(ctx context.Context, b *bench) (_ []figure, err error) {
	n := b.scale(5000)
	s, err := b.startFleet(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	builds := make(chan time.Time)
	waiting, leave := context.WithCancel(ctx)
	var group errgroup.Group
	defer func() {
		leave()
		group.Wait() //nolint:errcheck // they end since they were told to
	}()
	join := func() error {
		ready := make(chan error, 1)
		group.Go(func() error { return idleWorker(waiting, s.address, ready, builds) })
		return <-ready
	}
	if err := join(); err != nil {
		return nil, err
	}
	_, err = s.asking.Schedule(ctx, job.Job{Name: "job", Platform: "bench"}, []byte(trivial), job.Plan{Period: job.Never}, false)
	if err != nil {
		return nil, err
	}
	<-builds
	one, err := handOutTimes(ctx, s.asking, builds, b.scale(500))
	if err != nil {
		return nil, err
	}
	before, err := s.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	for range n - 1 {
		if err := join(); err != nil {
			return nil, err
		}
	}
	after, err := s.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	many, err := handOutTimes(ctx, s.asking, builds, b.scale(500))
	if err != nil {
		return nil, err
	}
	return []figure{{
		fmt.Sprintf("memory of the server for each of %d idle workers", n), fmt.Sprintf("%.1f KB", float64(after-before)/float64(n)/1000), "", "", "< 48 KB",
	}, {
		"execute to hand-out with them, median", many.Round(time.Microsecond).String(), one.Round(time.Microsecond).String() + " with one",
		fmt.Sprintf("%.2f", many.Seconds()/one.Seconds()), "<= 1.5",
	}}, nil
}

// idleWorker is a worker that does what it is given in no time, and tells when it
// was given it.
func idleWorker(ctx context.Context, address string, ready chan<- error, builds chan<- time.Time) error {
	conn, _, err := wire.Dialer{Role: wire.Worker, Introduce: wire.Introduce{
		Name: "idle", ID: uuid.NewString(), Capabilities: []string{wire.CapResume, wire.CapAlive},
	}}.Dial(ctx, address)
	if err != nil {
		ready <- err
		return err
	}
	defer conn.Close()
	const beat = 15 * time.Second
	conn.KeepAlive(beat, wire.Patience*beat)
	if err = conn.Send(wire.Holding{}); err == nil {
		_, err = conn.Receive(ctx, wire.KindResume)
	}
	if err == nil {
		err = conn.Send(wire.JobRequested{Platform: "bench"})
	}
	ready <- err
	for err == nil {
		var m wire.Message
		if m, err = conn.Receive(ctx, wire.KindStart, wire.KindStored); err != nil {
			return err
		}
		start, ok := m.(wire.Start)
		if !ok {
			continue
		}
		builds <- time.Now()
		if err = conn.Send(wire.Done{UUID: start.Build.UUID}); err == nil {
			err = conn.Send(wire.JobRequested{Platform: "bench"})
		}
	}
	return err
}

// handOutTimes is the median of the times from the request of a run to its worker.
func handOutTimes(ctx context.Context, c *client.Client, builds <-chan time.Time, n int) (time.Duration, error) {
	var all []time.Duration
	for range n {
		begin := time.Now()
		accepted, err := c.Execute(ctx, "job", "")
		if err != nil {
			return 0, err
		}
		all = append(all, (<-builds).Sub(begin))
		if err := c.Watch(ctx, wire.Watch{Run: accepted.Runs[0].ID, Job: "job"}, client.Viewer{}); err != nil {
			return 0, err
		}
	}
	return median(all), nil
}
