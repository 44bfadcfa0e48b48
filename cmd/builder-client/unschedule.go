package main

import (
	"fmt"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func unschedule(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "unschedule NAME",
		Short: "Remove a job from the schedule and the queues",
		Long: `Unschedule removes a job and its queued runs. A build of it that runs goes on;
the builds that have ended are kept.`,
		Example:           `  builder-client unschedule nightly`,
		Args:              arguments("NAME"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.Unschedule(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "job %s is not scheduled any more\n", quoted(args[0]))
			return nil
		}),
	}
}
