package main

import (
	"fmt"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/program"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

func observe(o *options) *cobra.Command {
	var from int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "observe JOB|UUID",
		Short: "Show the console of a build and follow it to its end",
		Long: `Observe shows the console of a job's running build, or replays its last one; or
that of the build with this uuid, of which a unique beginning is enough.

The console goes to standard output as the build printed it, everything else to
standard error. A connection that breaks is made again, and the console goes on
where it was. Ctrl-C stops watching only. The exit status is 0 when the build
succeeded and 1 when not. With --json the build's record is printed when it has
ended, in place of the console.`,
		Example: `  builder-client observe nightly
  builder-client observe 3f1c9a --from 1000 > console
  builder-client observe nightly --json | jq .place`,
		Args:              arguments("JOB or UUID"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			switch {
			case from < 0:
				return usagef("--from %d: the number must not be negative", from)
			}
			target := wire.Watch{What: args[0], From: from}
			if asJSON {
				return watchJSON(cmd, c, target)
			}
			return watch(cmd, c, target)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the build's record as JSON when it has ended")
	cmd.Flags().Int64Var(&from, "from", 0, "skip the first `number` of lines")
	return cmd
}

// watch shows a build to its end; its error is silent when the build did not
// succeed, or when the watching was interrupted.
func watch(cmd *cobra.Command, c *client.Client, target wire.Watch) error {
	ctx := cmd.Context()
	s := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr())
	err := c.Watch(ctx, target, s.viewer())
	switch {
	case ctx.Err() != nil:
		if err := s.leave(); err != nil {
			return err
		}
		return program.ErrSilent
	case err != nil && s.watching():
		return fmt.Errorf("watching build %s: %w", s.build, err) // what it does now is not known
	case err != nil:
		return err
	case s.ended == nil || !s.ended.Result.Success():
		return program.ErrSilent
	}
	return nil
}

// watchJSON waits for the end of a build and prints its record. Its error is silent
// when the build did not succeed.
func watchJSON(cmd *cobra.Command, c *client.Client, target wire.Watch) error {
	var ended job.Build
	err := c.Watch(cmd.Context(), target, client.Viewer{End: func(b job.Build, _ bool) error {
		ended = b
		return nil
	}})
	if err != nil {
		return err
	}
	if err := writeJSON(cmd.OutOrStdout(), recordJSON(ended)); err != nil {
		return err
	}
	if !ended.Result.Success() {
		return program.ErrSilent
	}
	return nil
}
