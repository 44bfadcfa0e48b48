package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

// submission is a job that is to be scheduled, by schedule or orb-build.
type submission struct {
	job            job.Job
	script         []byte
	plan           job.Plan
	update, follow bool
}

// submit schedules a job, tells what came of it, and watches its first run if
// that is wanted.
func submit(cmd *cobra.Command, c *client.Client, s submission) error {
	accepted, err := c.Schedule(cmd.Context(), s.job, s.script, s.plan, s.update)
	if err != nil {
		return err
	}
	out := reportTo(cmd, s.follow)
	fmt.Fprintf(out, "job %s is scheduled, %v\n", quoted(s.job.Name), s.plan)
	if err := reportNext(cmd, c, out, s.job.Name, accepted); err != nil || !s.follow {
		return err
	}
	return followFirst(cmd, c, s.job.Name, accepted)
}

// reportTo is where the outcome of an order is told: not among the console's lines.
func reportTo(cmd *cobra.Command, follow bool) io.Writer {
	if follow {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

// reportNext tells which runs were queued and when the job is due next. A
// reference server is asked for the latter.
func reportNext(cmd *cobra.Command, c *client.Client, out io.Writer, name string, accepted wire.Accepted) error {
	own, err := c.Own(cmd.Context())
	if err == nil && !own {
		accepted.Next, err = nextOf(cmd, c, name)
	}
	if err != nil {
		return fmt.Errorf("it is done, but asking what came of it: %w", err)
	}
	if len(accepted.Runs) > 0 {
		fmt.Fprintf(out, "queued: %s\n", runNames(accepted.Runs))
	}
	fmt.Fprintf(out, "next: %s\n", due(accepted.Next, time.Now()))
	return nil
}

// nextOf looks up when a job is due.
func nextOf(cmd *cobra.Command, c *client.Client, name string) (time.Time, error) {
	status, err := c.Status(cmd.Context())
	if err != nil {
		return time.Time{}, err
	}
	for _, j := range status.Jobs {
		if j.Job.Name == name {
			return j.Next, nil
		}
	}
	return time.Time{}, nil
}

func runNames(runs []wire.RunRef) string {
	names := make([]string, len(runs))
	for i, run := range runs {
		names[i] = fmt.Sprintf("run %d on %s", run.ID, quoted(run.Platform))
	}
	return strings.Join(names, ", ")
}

// followFirst watches the first of the runs that an order started.
func followFirst(cmd *cobra.Command, c *client.Client, name string, accepted wire.Accepted) error {
	own, err := c.Own(cmd.Context())
	switch {
	case err != nil:
		return err
	case !own:
		return fmt.Errorf("%w: it is done, but not followed; use observe-latest --job %s",
			c.Cannot("name the run that was asked for"), quoted(name))
	case len(accepted.Runs) == 0:
		return errors.New("no run was queued, so there is none to follow")
	}
	first := accepted.Runs[0]
	if len(accepted.Runs) > 1 {
		fmt.Fprintf(cmd.ErrOrStderr(), "following run %d on %s only\n", first.ID, quoted(first.Platform))
	}
	return watch(cmd, c, wire.Watch{Run: first.ID, Job: name})
}
