package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

// watching is how many observers a build has beside the one that is stopped.
const watching = 10

// observers measures what observers cost a build that prints many lines.
func observers(ctx context.Context, b *bench) ([]figure, error) {
	n := b.scale(1_000_000)
	alone, err := printed(ctx, b, n, 0)
	if err != nil {
		return nil, err
	}
	observed, err := printed(ctx, b, n, watching)
	if err != nil {
		return nil, err
	}
	return []figure{{
		fmt.Sprintf("console lines with %d observers and a stopped one, lines/s", watching), fmt.Sprintf("%.0f", perSecond(n, observed)),
		fmt.Sprintf("%.0f with none", perSecond(n, alone)), fmt.Sprintf("%.2f", alone.Seconds()/observed.Seconds()), ">= 0.7",
	}}, nil
}

// printed is the time from the start of the script to the durable end of its build.
func printed(ctx context.Context, b *bench, n, observers int) (took time.Duration, err error) {
	s, err := b.startFleet(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	// The script waits until all observers are there.
	script := fmt.Sprintf("#!/bin/sh\necho begun\nsleep 2\nyes %s | head -n %d\n", strings.Repeat("x", 100), n)
	name := fmt.Sprintf("printer%d", observers)
	accepted, err := s.asking.Schedule(ctx, job.Job{Name: name, Platform: "bench"}, []byte(script), job.Plan{Period: job.Never}, false)
	if err != nil {
		return 0, err
	}
	target := wire.Watch{Run: accepted.Runs[0].ID, Job: name}
	var group errgroup.Group
	for range observers {
		group.Go(func() error {
			c := s.client()
			defer c.Close() //nolint:errcheck // nothing is lost
			return c.Watch(ctx, target, client.Viewer{})
		})
	}
	if observers > 0 {
		stop, err := stoppedObserver(ctx, s.address, target)
		if err != nil {
			return 0, err
		}
		defer stop()
	}
	for {
		builds, err := s.asking.Builds(ctx, name, 1)
		if err != nil {
			return 0, err
		}
		if len(builds) == 1 {
			took = time.Since(builds[0].Started) - 2*time.Second
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	return took, group.Wait()
}

// stoppedObserver asks for a console and reads nothing of it.
func stoppedObserver(ctx context.Context, address string, target wire.Watch) (stop func(), err error) {
	conn, _, err := wire.Dialer{Role: wire.Client}.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return func() { conn.Close() }, conn.Send(target)
}
