package main

import (
	"fmt"

	"builder/pkg/client"

	"github.com/spf13/cobra"
)

func pin(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "pin UUID",
		Short: "Keep a build, whatever retention says",
		Long: `Pin keeps a build that has ended until it is unpinned: neither it nor its artifacts
are removed. The beginning of the uuid is enough.`,
		Example: `  builder-client pin 3f1c9a`,
		Args:    arguments("UUID"),
		RunE:    o.pin(false, "build %v is pinned\n"),
	}
}

func unpin(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "unpin UUID",
		Short: "Take back a pin",
		Long: `Unpin lets a build go again, when retention says so. The beginning of the uuid is
enough. One that is not pinned stays so.`,
		Example: `  builder-client unpin 3f1c9a`,
		Args:    arguments("UUID"),
		RunE:    o.pin(true, "build %v is not pinned\n"),
	}
}

func (o *options) pin(unpin bool, done string) func(*cobra.Command, []string) error {
	return o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
		id, err := c.Pin(cmd.Context(), args[0], unpin)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), done, id)
		return err
	})
}
