package main

import (
	"fmt"
	"strings"
	"time"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func cancel(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel JOB|UUID",
		Short: "End a job's queued runs and its builds, or one build",
		Long: `Cancel takes a job's queued runs out of their queues and ends its builds; or,
given a uuid or the beginning of one, ends that build, wherever it stands; its run
is not tried again. The script gets its job's grace to end by itself. The job stays
in the schedule. What has ended already can not be cancelled: that is an error.`,
		Example: `  builder-client cancel nightly --reason "the mirror is down"
  builder-client cancel 3f1c9a`,
		Args:              arguments("JOB or UUID"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.Cancel(cmd.Context(), args[0], reason); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is cancelled\n", quoted(args[0]))
			return reportEnding(cmd, c, args[0])
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for those who look at the result")
	return cmd
}

// reportEnding tells which of the builds that were cancelled have not ended yet.
func reportEnding(cmd *cobra.Command, c *client.Client, what string) error {
	status, err := c.Status(cmd.Context())
	if err != nil {
		return fmt.Errorf("it is done, but asking what came of it: %w", err)
	}
	for _, b := range status.Building {
		if b.Job != what && !strings.HasPrefix(b.UUID.String(), strings.ToLower(what)) {
			continue
		}
		text := "is being ended"
		if !b.Away.IsZero() {
			text = "has that result; its worker is away for " + since(b.Away, time.Now()) + " and will hear of it"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "build %s on %s %s\n", b.UUID, quoted(b.Platform), text)
	}
	return nil
}
