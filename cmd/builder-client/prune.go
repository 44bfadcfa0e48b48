package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

func prune(o *options) *cobra.Command {
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use:   "prune [JOB]",
		Short: "Remove builds that need not be kept, and say how much that frees",
		Long: `Prune has the server remove now the builds that its --keep flags, and those of the
jobs, say need not be kept, of all jobs or of one. The server does so by itself once
an hour. With --dry-run nothing is removed.`,
		Example: `  builder-client prune --dry-run
  builder-client prune nightly
  builder-client prune --dry-run --json | jq .freed`,
		Args:              arguments("[JOB]"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			reply, err := c.Prune(cmd.Context(), name, dry)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), pruneJSON(reply, dry))
			}
			if err := writePruned(cmd.OutOrStdout(), reply, dry); err != nil || reply.Damaged == 0 {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s can not be read: no contents are removed, since nobody knows which of them it takes; the server's log has more\n",
				count(int(reply.Damaged), "record"))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// writePruned shows to people what went.
func writePruned(out io.Writer, r wire.PruneReply, dry bool) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	title, frees := "Removed", "freed"
	if dry {
		title, frees = "To be removed", "that would free"
	}
	t.section(title, "no builds", "BUILD", "JOB", "PLATFORM", "ENDED", "WHAT", "BEYOND", "SIZE")
	whole := 0
	for _, b := range r.Builds {
		what := "artifacts"
		if !b.ArtifactsOnly {
			what = "build"
			whole++
		}
		ended := "-"
		if !b.Finished.IsZero() {
			ended = clock(b.Finished)
		}
		t.row(b.UUID.String(), quoted(b.Job), quoted(b.Platform), ended, what, "--"+harmless(b.Bound), job.AboutSize(b.Octets))
	}
	if err := t.close(); err != nil {
		return err
	}
	var parts []string
	if whole > 0 {
		parts = append(parts, count(whole, "build"))
	}
	if stripped := len(r.Builds) - whole; stripped > 0 {
		parts = append(parts, "the artifacts of "+count(stripped, "build"))
	}
	if r.Orphans > 0 {
		parts = append(parts, count(int(r.Orphans), "content")+" that nothing names")
	}
	if len(parts) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "\n%s; %s %s\n", strings.Join(parts, ", "), frees, job.AboutSize(r.Freed+r.OrphanOctets))
	return err
}
