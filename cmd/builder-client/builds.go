package main

import (
	"crypto/sha256"
	"io"
	"slices"
	"text/tabwriter"

	"builder/pkg/client"
	"builder/pkg/job"

	"github.com/spf13/cobra"
)

func builds(o *options) *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "builds [JOB]",
		Short: "List builds that have ended, the newest first",
		Long: `Builds lists builds that have ended, the newest first. Of those of one job it shows
in the column MAIN which have the same main artifact, the one file below bin/: they
have the same letter. A ! marks those that differ from another one that had the same
inputs (opam-switch, build-environment, system-packages).`,
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
			list, outputs, err := c.Outputs(cmd.Context(), name, limit)
			if err != nil {
				return err
			}
			if outputs == nil {
				outputs = make([]job.Output, len(list))
			}
			if asJSON {
				all := make([]listedOut, len(list))
				for i, b := range list {
					all[i] = listedJSON(b, outputs[i])
				}
				return writeJSON(cmd.OutOrStdout(), all)
			}
			return writeBuilds(cmd.OutOrStdout(), list, outputs, name != "")
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of builds at the most; the server gives no more than 10000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

// writeBuilds shows builds; those of one job also by what they came to.
func writeBuilds(out io.Writer, list []job.Build, outputs []job.Output, ofOneJob bool) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	head := []string{"BUILD", "JOB", "PLATFORM", "RUN", "TRY", "STARTED", "TOOK", "RESULT"}
	marks := marksOf(outputs)
	comparable := ofOneJob && slices.ContainsFunc(marks, func(mark string) bool { return mark != "" })
	if comparable {
		head = slices.Insert(head, 7, "MAIN")
	}
	t.section("Builds", "none", head...)
	for i, b := range list {
		cells := []string{
			b.UUID.String(), quoted(b.Job), quoted(b.Platform), number(b.Run), number(uint64(max(0, b.Try))), clock(b.Started), span(took(b)),
			harmless(b.Result.String()),
		}
		if comparable {
			cells = slices.Insert(cells, 7, marks[i])
		}
		t.row(cells...)
	}
	if comparable {
		t.printf("MAIN: the same letter is the same main artifact; ! differs from another build with the same inputs\n")
	}
	return t.close()
}

// marksOf gives each distinct main artifact a letter, the oldest first, and marks
// those that differ though their inputs are equal. Builds without a main artifact
// have none. The newest is the first.
func marksOf(outputs []job.Output) []string {
	letters := map[[sha256.Size]byte]string{}
	mains := map[[sha256.Size]byte]map[[sha256.Size]byte]bool{} // by the hash of the inputs
	for _, o := range slices.Backward(outputs) {
		main := o.Main.SHA256
		if o.Main.IsZero() {
			continue
		}
		if letters[main] == "" {
			letters[main] = letter(len(letters))
		}
		if o.HasInputs() {
			if mains[o.Inputs] == nil {
				mains[o.Inputs] = map[[sha256.Size]byte]bool{}
			}
			mains[o.Inputs][main] = true
		}
	}
	marks := make([]string, len(outputs))
	for i, o := range outputs {
		marks[i] = letters[o.Main.SHA256]
		if len(mains[o.Inputs]) > 1 && !o.Main.IsZero() {
			marks[i] += "!"
		}
	}
	return marks
}

// letter names the n-th of many: A to Z, AA, AB and so on.
func letter(n int) string {
	text := string(rune('A' + n%26))
	if n < 26 {
		return text
	}
	return letter(n/26-1) + text
}
