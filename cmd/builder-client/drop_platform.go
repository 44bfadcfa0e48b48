package main

import (
	"fmt"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func dropPlatform(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "drop-platform PLATFORM",
		Short: "Pause a platform: its jobs do not run, its workers are refused",
		Long: `Drop-platform pauses a platform until undrop-platform. Its jobs stay in the
schedule, its workers get no build; builds that run go on.`,
		Example:           `  builder-client drop-platform debian-11`,
		Args:              arguments("PLATFORM"),
		ValidArgsFunction: completePlatform(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.DropPlatform(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "platform %s is dropped\n", quoted(args[0]))
			return nil
		}),
	}
}
