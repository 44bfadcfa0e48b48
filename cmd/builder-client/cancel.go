package main

import (
	"fmt"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func cancel(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel JOB|UUID",
		Short: "End a job's queued runs and its builds, or one build",
		Long: `Cancel takes a job's queued runs out of their queues and ends its builds; or,
given a uuid or the beginning of one, ends that build. The script gets 10
seconds to end by itself. The job stays in the schedule.`,
		Example: `  builder-client cancel nightly --reason "the mirror is down"
  builder-client cancel 3f1c9a`,
		Args:              arguments("JOB or UUID"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.Cancel(cmd.Context(), args[0], reason); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is cancelled\n", quoted(args[0]))
			return nil
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for those who look at the result")
	return cmd
}
