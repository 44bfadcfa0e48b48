package main

import (
	"fmt"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func execute(o *options) *cobra.Command {
	var platform string
	var follow bool
	cmd := &cobra.Command{
		Use:   "execute NAME",
		Short: "Run a job as soon as a worker is free; its plan stays",
		Long: `Execute puts a job at the front of its queue, or of each of its queues, and
leaves its plan alone. When it is queued already that run moves to the front.`,
		Example: `  builder-client execute nightly
  builder-client execute nightly --platform debian-12 --follow`,
		Args:              arguments("NAME"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if cmd.Flags().Changed("platform") && platform == "" {
				return usagef(`--platform "": the name is empty`)
			}
			accepted, err := c.Execute(cmd.Context(), args[0], platform)
			if err != nil {
				return err
			}
			out := reportTo(cmd, follow)
			fmt.Fprintf(out, "job %s is to run\n", quoted(args[0]))
			if err := reportNext(cmd, c, out, args[0], accepted); err != nil || !follow {
				return err
			}
			return followFirst(cmd, c, args[0], accepted)
		}),
	}
	cmd.Flags().StringVar(&platform, "platform", "", "run on this `platform` only")
	cmd.Flags().BoolVar(&follow, "follow", false, "watch the run; the exit status tells how it ended")
	return cmd
}
