package main

import (
	"text/tabwriter"

	"builder/pkg/client"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func builds(o *options) *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "builds [JOB]",
		Short: "List builds that have ended, the newest first",
		Example: `  builder-client builds --limit 5
  builder-client builds nightly --json | jq -r '.[0].uuid'`,
		Args:              arguments("[JOB]"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if limit <= 0 {
				return usagef("--limit %d: the number must be positive", limit)
			}
			name := ""
			if len(args) > 0 {
				if name = args[0]; name == "" {
					return usagef("JOB is empty")
				}
			}
			list, err := c.List(cmd.Context(), name, limit)
			if err != nil {
				return err
			}
			marks := map[uuid.UUID]wire.BuildMark{}
			for _, m := range list.Marks {
				marks[m.UUID] = m
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), each(list.Builds, markedJSON(marks)))
			}
			t := &table{w: tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)}
			t.section("Builds", "none", "BUILD", "JOB", "PLATFORM", "RUN", "TRY", "STARTED", "TOOK", "MARKS", "RESULT")
			for _, b := range list.Builds {
				t.row(b.UUID.String(), quoted(b.Job), quoted(b.Platform), number(b.Run), number(uint64(max(0, b.Try))), clock(b.Started), span(b.Finished.Sub(b.Started)),
					marksOf(marks[b.UUID]), harmless(b.Result.String()))
			}
			return t.close()
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of builds at the most; the server gives no more than 10000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

// marksOf tells whether a build is pinned, and whether its artifacts are gone.
func marksOf(m wire.BuildMark) string {
	switch {
	case m.Pinned && m.Pruned:
		return "pinned, pruned"
	case m.Pinned:
		return "pinned"
	case m.Pruned:
		return "pruned"
	}
	return "-"
}
