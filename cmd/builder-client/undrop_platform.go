package main

import (
	"fmt"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func undropPlatform(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "undrop-platform PLATFORM",
		Short:             "Bring a dropped platform back",
		Example:           `  builder-client undrop-platform debian-11`,
		Args:              arguments("PLATFORM"),
		ValidArgsFunction: completePlatform(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.UndropPlatform(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "platform %s is back\n", quoted(args[0]))
			return nil
		}),
	}
}
