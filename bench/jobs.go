package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

const trivial = "#!/bin/sh\necho done\n"

const slots = 2

// rounds is how often trivial jobs are measured, with the floor after each: the
// machine may be faster or slower for a while.
const rounds = 5

// jobs measures trivial jobs through two slots.
func jobs(ctx context.Context, b *bench) ([]figure, error) {
	n := b.scale(500)
	var here, bare, ratios []float64
	err := runJobs(ctx, b, n, rounds, func(took time.Duration) error {
		floor, err := bareJobs(ctx, b, n)
		here = append(here, perSecond(n, took))
		bare = append(bare, perSecond(n, floor))
		ratios = append(ratios, floor.Seconds()/took.Seconds())
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(here)
	slices.Sort(bare)
	slices.Sort(ratios)
	middle := rounds / 2
	return []figure{{
		fmt.Sprintf("trivial jobs, 2 slots, jobs/s, median of %d", rounds), fmt.Sprintf("%.0f", here[middle]),
		fmt.Sprintf("%.0f (mkdir, write, exec, rm, 2 synced appends; 2 at a time)", bare[middle]),
		fmt.Sprintf("%.2f (%.2f to %.2f)", ratios[middle], ratios[0], ratios[rounds-1]), ">= 0.5",
	}, {
		"the same, to robur's builder", fmt.Sprintf("%.0f", here[middle]), "20.8", fmt.Sprintf("%.0f", here[middle]/20.8), "",
	}}, nil
}

// runJobs has n jobs built, which are new only once, and then as many rounds more. It
// says how long each of those took.
func runJobs(ctx context.Context, b *bench, n, rounds int, say func(took time.Duration) error) (err error) {
	s, err := b.startFleet(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	name := func(i int) string { return "job" + strconv.Itoa(i) }
	if _, err := runRound(ctx, b, s.server, n, func(i int) (wire.Accepted, error) {
		return s.asking.Schedule(ctx, job.Job{Name: name(i), Platform: "bench"}, []byte(trivial), job.Plan{Period: job.Never}, false)
	}); err != nil {
		return err
	}
	for range rounds {
		took, err := runRound(ctx, b, s.server, n, func(i int) (wire.Accepted, error) { return s.asking.Execute(ctx, name(i), "") })
		if err != nil {
			return err
		}
		if err := say(took); err != nil {
			return err
		}
	}
	return nil
}

// runRound queues n runs, then starts a worker, and takes the time from the
// start of the first build to the end of the last.
func runRound(ctx context.Context, b *bench, s *server, n int, queue func(i int) (wire.Accepted, error)) (time.Duration, error) {
	runs := map[uint64]bool{}
	var ends []wire.Watch // of the queue: what was executed last is built first
	for i := range n {
		accepted, err := queue(i)
		if err != nil {
			return 0, err
		}
		id := accepted.Runs[0].ID
		runs[id] = true
		if i == 0 || i == n-1 {
			ends = append(ends, wire.Watch{Run: id, Job: "job" + strconv.Itoa(i)})
		}
	}
	w, err := b.startWorker(ctx, s, slots)
	if err != nil {
		return 0, err
	}
	defer w.stop()
	c := s.client()
	defer c.Close() //nolint:errcheck // nothing is lost
	for _, end := range ends {
		if err := c.Watch(ctx, end, client.Viewer{}); err != nil {
			return 0, err
		}
	}
	for idle := false; !idle; time.Sleep(10 * time.Millisecond) { // the other slot
		status, err := c.Status(ctx)
		if err != nil {
			return 0, err
		}
		idle = len(status.Building) == 0 && len(status.Platforms[0].Queue) == 0
	}
	builds, err := c.Builds(ctx, "", n)
	if err != nil {
		return 0, err
	}
	first, end := builds[0].Started, builds[0].Finished
	for _, build := range builds {
		if !runs[build.Run] || !build.Result.Success() {
			return 0, fmt.Errorf("a build %v of run %d", build.Result, build.Run)
		}
		if build.Started.Before(first) {
			first = build.Started
		}
		if build.Finished.After(end) {
			end = build.Finished
		}
	}
	return end.Sub(first), nil
}

// bareJobs is the floor.
func bareJobs(ctx context.Context, b *bench, n int) (time.Duration, error) {
	begin := time.Now()
	var group errgroup.Group
	for slot := range slots {
		group.Go(func() error {
			log, err := os.Create(filepath.Join(b.dir, "log"+strconv.Itoa(slot)))
			if err != nil {
				return err
			}
			defer log.Close()
			for i := range n / slots {
				if err := bareJob(ctx, filepath.Join(b.dir, fmt.Sprintf("bare%d-%d", slot, i)), log); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return time.Since(begin), err
}

func bareJob(ctx context.Context, dir string, log *os.File) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte(trivial), 0o700); err != nil {
		return err
	}
	if err := syncedAppend(log); err != nil {
		return err
	}
	// By the shell, not by its own #! line: a file that was just written can not
	// be executed while another goroutine's child still has it open.
	if err := exec.CommandContext(ctx, "/bin/sh", script).Run(); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return syncedAppend(log)
}

func syncedAppend(log *os.File) error {
	if _, err := log.Write(make([]byte, 200)); err != nil {
		return err
	}
	return log.Sync()
}
