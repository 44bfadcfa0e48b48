package main

import (
	"context"
	"crypto/rand"
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
	var here, bare, keeping samples
	err := runJobs(ctx, b, n, rounds, func(took time.Duration) error {
		here = append(here, perSecond(n, took))
		for floor, kept := range map[*samples]bool{&bare: false, &keeping: true} {
			took, err := bareJobs(ctx, b, n, kept)
			if err != nil {
				return err
			}
			*floor = append(*floor, perSecond(n, took))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	value := fmt.Sprintf("%.0f", here.median())
	return []figure{{
		fmt.Sprintf("trivial jobs, 2 slots, jobs/s, median of %d", rounds), value,
		fmt.Sprintf("%.0f (mkdir, write, exec, rm, 2 synced appends; 2 at a time)", bare.median()), here.to(bare), ">= 0.5",
	}, {
		"the same, to a loop that keeps builds", value,
		fmt.Sprintf("%.0f (that, and mkdir, 3 files, 5 syncs at once)", keeping.median()), here.to(keeping), "",
	}, {
		"the same, to robur's builder", value, "20.8", fmt.Sprintf("%.0f", here.median()/20.8), "",
	}}, nil
}

// samples are one figure, measured in each of the rounds.
type samples []float64

func (s samples) median() float64 { return slices.Sorted(slices.Values(s))[len(s)/2] }

// to is the ratio to other, of each round: the median, the least and the largest.
func (s samples) to(other samples) string {
	ratios := make(samples, len(s))
	for i := range s {
		ratios[i] = s[i] / other[i]
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", ratios.median(), slices.Min(ratios), slices.Max(ratios))
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

// bareJobs is the floor. It may keep of each job what a build leaves, too.
func bareJobs(ctx context.Context, b *bench, n int, kept bool) (time.Duration, error) {
	begin := time.Now()
	var group errgroup.Group
	for slot := range slots {
		group.Go(func() error {
			log, err := os.Create(filepath.Join(b.dir, "log"+strconv.Itoa(slot)))
			if err != nil {
				return err
			}
			defer log.Close()
			for range n / slots {
				name := rand.Text()
				if err := bareJob(ctx, filepath.Join(b.dir, name), log); err != nil {
					return err
				}
				if kept {
					if err := keepJob(filepath.Join(b.dir, "kept"+strconv.Itoa(slot), name)); err != nil {
						return err
					}
				}
				if err := syncedAppend(log); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return time.Since(begin), err
}

// bareJob is a job from its hand-out to the moment when nothing is left of it.
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
	return os.RemoveAll(dir)
}

// keepJob keeps what the server keeps of such a job, as durably: a record, and the
// console in two files.
func keepJob(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var group errgroup.Group
	for name, size := range map[string]int{"record": 210, "console": 5, "console.index": 32} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(make([]byte, size)); err != nil {
			return err
		}
		group.Go(f.Sync)
	}
	for _, name := range []string{dir, filepath.Dir(dir)} {
		d, err := os.Open(name)
		if err != nil {
			return err
		}
		defer d.Close()
		group.Go(d.Sync)
	}
	return group.Wait()
}

func syncedAppend(log *os.File) error {
	if _, err := log.Write(make([]byte, 200)); err != nil {
		return err
	}
	return log.Sync()
}
