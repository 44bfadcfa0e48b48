package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

// size is what is measured at one size of the schedule.
type size struct {
	jobs     int
	rate     float64 // hand-outs per second
	schedule time.Duration
	start    time.Duration
	resident int64
}

// handOuts measures with few and with many jobs in the schedule.
func handOuts(ctx context.Context, b *bench) ([]figure, error) {
	few, err := atSize(ctx, b, 10)
	if err != nil {
		return nil, err
	}
	many, err := atSize(ctx, b, b.scale(100_000))
	if err != nil {
		return nil, err
	}
	of := fmt.Sprintf(" with %d jobs", many.jobs)
	return []figure{
		{
			"execute, hand-out and end per second" + of, fmt.Sprintf("%.0f", many.rate),
			fmt.Sprintf("%.0f with 10 jobs", few.rate), fmt.Sprintf("%.2f", many.rate/few.rate), ">= 0.8",
		},
		{"start of the server" + of, many.start.Round(time.Millisecond).String(), "", "", "< 2s"},
		{"resident memory" + of, megabytes(many.resident), "", "", "< 300 MB"},
		{
			"schedule one more" + of + ", median", many.schedule.Round(time.Microsecond).String(),
			few.schedule.Round(time.Microsecond).String() + " with 10 jobs",
			fmt.Sprintf("%.2f", many.schedule.Seconds()/few.schedule.Seconds()), "<= 2",
		},
	}, nil
}

func atSize(ctx context.Context, b *bench, n int) (_ size, err error) {
	b = &bench{bin: b.bin, dir: b.dir + "/" + strconv.Itoa(n), quick: b.quick}
	s, err := b.startServer(ctx)
	if err != nil {
		return size{}, err
	}
	if err := fill(ctx, s, n); err != nil {
		return size{}, errors.Join(err, s.stop())
	}
	if err := s.stop(); err != nil {
		return size{}, err
	}
	begin := time.Now()
	if s, err = b.startServer(ctx); err != nil {
		return size{}, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	m := size{jobs: n, start: time.Since(begin)}
	if m.rate, err = cycles(ctx, s, b.scale(4000)); err != nil {
		return m, err
	}
	if m.schedule, err = scheduleMore(ctx, s, b.scale(200)); err != nil {
		return m, err
	}
	m.resident, err = s.memory("VmRSS")
	return m, err
}

// script is one of 2 KB, different for each job.
func script(i int) []byte {
	return []byte(fmt.Sprintf("#!/bin/sh\n# %d\n", i) + strings.Repeat("# a comment of some length\n", 75))
}

// fill schedules n jobs that are not due.
func fill(ctx context.Context, s *server, n int) error {
	const clients = 16
	var group errgroup.Group
	for k := range clients {
		group.Go(func() error {
			c := s.client()
			defer c.Close() //nolint:errcheck // nothing is lost
			for i := k; i < n; i += clients {
				plan := job.Plan{Cron: fmt.Sprintf("%d %d 1 1 *", i%60, i/60%24)}
				j := job.Job{Name: "job" + strconv.Itoa(i), Platform: "bench" + strconv.Itoa(i%pairs)}
				if _, err := c.Schedule(ctx, j, script(i), plan, false); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// pairs is how many clients, each with a worker of a platform of its own, do
// cycles at a time.
const pairs = 4

// cycles executes n runs, each handed to a worker that ends it at once, and
// returns how many were done per second.
func cycles(ctx context.Context, s *server, n int) (float64, error) {
	var group errgroup.Group
	begin := time.Now()
	for k := range pairs {
		group.Go(func() error {
			c := s.client()
			defer c.Close() //nolint:errcheck // nothing is lost
			w, _, err := wire.Dialer{Role: wire.Worker, Introduce: wire.Introduce{Name: "bench"}}.Dial(ctx, s.address)
			if err != nil {
				return err
			}
			defer w.Close()
			for range n / pairs {
				if err := cycle(ctx, c, w, strconv.Itoa(k)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return perSecond(n, time.Since(begin)), err
}

func cycle(ctx context.Context, c *client.Client, w *wire.Conn, pair string) error {
	if _, err := c.Execute(ctx, "job"+pair, ""); err != nil {
		return err
	}
	if err := w.Send(wire.JobRequested{Platform: "bench" + pair}); err != nil {
		return err
	}
	m, err := w.Receive(ctx, wire.KindStart)
	if err != nil {
		return err
	}
	if err := w.Send(wire.Finish{UUID: m.(wire.Start).Build.UUID}); err != nil {
		return err
	}
	_, err = w.Receive(ctx, wire.KindStored)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func scheduleMore(ctx context.Context, s *server, n int) (time.Duration, error) {
	c := s.client()
	defer c.Close() //nolint:errcheck // nothing is lost
	var took []time.Duration
	for i := range n {
		begin := time.Now()
		j := job.Job{Name: "more" + strconv.Itoa(i), Platform: "bench"}
		if _, err := c.Schedule(ctx, j, script(-1-i), job.Plan{Cron: "0 0 1 1 *"}, false); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	return median(took), nil
}
