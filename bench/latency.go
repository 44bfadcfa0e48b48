package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// latency measures from the request of a run to the first line that its
// observer sees, with an idle worker.
func latency(ctx context.Context, b *bench) (_ []figure, err error) {
	s, err := b.startFleet(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	accepted, err := s.asking.Schedule(ctx, job.Job{Name: "job", Platform: "bench"}, []byte(trivial), job.Plan{Period: job.Never}, false)
	if err != nil {
		return nil, err
	}
	if err := s.asking.Watch(ctx, wire.Watch{Run: accepted.Runs[0].ID, Job: "job"}, client.Viewer{}); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	script := filepath.Join(b.dir, "script")
	if err := os.WriteFile(script, []byte(trivial), 0o700); err != nil {
		return nil, err
	}
	var here, bare []time.Duration
	for range b.scale(300) { // in turns: the machine's speed drifts
		d, err := firstLine(ctx, s.asking)
		if err != nil {
			return nil, err
		}
		here = append(here, d)
		if d, err = bareLine(ctx, script, log); err != nil {
			return nil, err
		}
		bare = append(bare, d)
	}
	h, f := median(here), median(bare)
	return []figure{{
		"execute to first console line, median", h.Round(10 * time.Microsecond).String(),
		f.Round(10*time.Microsecond).String() + " (fork, exec, first line, one synced append)",
		fmt.Sprintf("%.2f", h.Seconds()/f.Seconds()), "<= 3",
	}, {
		"the same, to robur's builder", h.Round(10 * time.Microsecond).String(), "95ms", fmt.Sprintf("%.3f", h.Seconds()/0.095), "",
	}}, nil
}

func firstLine(ctx context.Context, c *client.Client) (took time.Duration, err error) {
	begin := time.Now()
	accepted, err := c.Execute(ctx, "job", "")
	if err != nil {
		return 0, err
	}
	err = c.Watch(ctx, wire.Watch{Run: accepted.Runs[0].ID, Job: "job"}, client.Viewer{Line: func(job.Line) error {
		if took == 0 {
			took = time.Since(begin)
		}
		return nil
	}})
	return took, err
}

func bareLine(ctx context.Context, script string, log *os.File) (time.Duration, error) {
	begin := time.Now()
	if err := syncedAppend(log); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return 0, err
	}
	return time.Since(begin), cmd.Wait()
}
