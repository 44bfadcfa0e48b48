package main

import (
	"cmp"

	"builder/pkg/client"
	"builder/pkg/job"

	"github.com/spf13/cobra"
)

func orbBuild(o *options) *cobra.Command {
	var when planFlags
	var limits limitFlags
	var keep keepFlags
	var update, follow bool
	cmd := &cobra.Command{
		Use:   "orb-build NAME PACKAGE",
		Short: "Schedule reproducible builds of an opam package",
		Long: `Orb-build adds a job that builds an opam package with orb on each platform for
which the server has an orb-build template.`,
		Example: `  builder-client orb-build traceroute traceroute.0.1.0 --period weekly`,
		Args:    arguments("NAME", "PACKAGE"),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			plan, err := when.plan(cmd)
			if err != nil {
				return err
			}
			if follow && plan.Cron != "" {
				return usagef("--follow does not go with --cron, which queues nothing at once: use execute --follow")
			}
			s := submission{job: job.OrbBuild(args[0], args[1]), plan: plan, update: update, follow: follow}
			if err := cmp.Or(limits.set(cmd, &s.job), keep.set(cmd, &s.job)); err != nil {
				return err
			}
			return submit(cmd, c, s)
		}),
	}
	when.add(cmd)
	limits.add(cmd)
	keep.add(cmd)
	cmd.Flags().BoolVar(&update, "update", false, "replace definition, limits, bounds and plan of a job that exists; its history stays")
	cmd.Flags().BoolVar(&follow, "follow", false, "watch the first run that is queued; the exit status tells how it ended")
	return cmd
}
