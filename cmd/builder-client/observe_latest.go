package main

import (
	"builder/pkg/client"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

func observeLatest(o *options) *cobra.Command {
	var target wire.Watch
	cmd := &cobra.Command{
		Use:   "observe-latest",
		Short: "Follow the build that was started last",
		Long:  `Observe-latest is observe for the newest build that runs, of a platform or a job if these are given.`,
		Example: `  builder-client observe-latest
  builder-client observe-latest --platform debian-12`,
		Args: arguments(),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			return watch(cmd, c, target)
		}),
	}
	cmd.Flags().StringVar(&target.Platform, "platform", "", "only builds on this `platform`")
	cmd.Flags().StringVar(&target.Job, "job", "", "only builds of this `job`")
	return cmd
}
