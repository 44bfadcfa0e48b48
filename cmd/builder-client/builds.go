package main

import (
	"crypto/sha256"
	"io"
	"slices"
	"text/tabwriter"

	"builder/pkg/client"
	"builder/pkg/job"
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
				name = args[0]
			}
			reply, err := c.List(cmd.Context(), name, limit)
			if err != nil {
				return err
			}
			list := listedOf(reply)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), each(list, listedJSON))
			}
			return writeBuilds(cmd.OutOrStdout(), list, name != "")
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of builds at the most; the server gives no more than 10000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

// listed is a build with what it came to, and what is said about it.
type listed struct {
	job.Build
	output job.Output
	mark   wire.BuildMark
}

func listedOf(reply wire.ListReply) []listed {
	marks := map[uuid.UUID]wire.BuildMark{}
	for _, m := range reply.Marks {
		marks[m.UUID] = m
	}
	list := make([]listed, len(reply.Builds))
	for i, b := range reply.Builds {
		list[i] = listed{Build: b, mark: marks[b.UUID]}
		if i < len(reply.Outputs) {
			list[i].output = reply.Outputs[i]
		}
	}
	return list
}

// writeBuilds shows builds; those of one job also by what they came to.
func writeBuilds(out io.Writer, list []listed, ofOneJob bool) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	head := []string{"BUILD", "JOB", "PLATFORM", "RUN", "TRY", "STARTED", "TOOK", "MARKS", "RESULT"}
	letters := lettersOf(list)
	comparable := ofOneJob && slices.ContainsFunc(letters, func(letter string) bool { return letter != "" })
	if comparable {
		head = slices.Insert(head, 7, "MAIN")
	}
	t.section("Builds", "none", head...)
	for i, b := range list {
		cells := []string{
			b.UUID.String(), quoted(b.Job), quoted(b.Platform), number(b.Run), number(uint64(max(0, b.Try))), clock(b.Started), span(took(b.Build)),
			marksOf(b.mark), harmless(b.Result.String()),
		}
		if comparable {
			cells = slices.Insert(cells, 7, letters[i])
		}
		t.row(cells...)
	}
	if comparable {
		t.printf("MAIN: the same letter is the same main artifact; ! differs from another build with the same inputs\n")
	}
	return t.close()
}

// lettersOf gives each distinct main artifact a letter, the oldest first, and marks
// those that differ though their inputs are equal. Builds without a main artifact
// have none. The newest is the first.
func lettersOf(list []listed) []string {
	letters := map[[sha256.Size]byte]string{}
	mains := map[[sha256.Size]byte]map[[sha256.Size]byte]bool{} // by the hash of the inputs
	for _, b := range slices.Backward(list) {
		o, main := b.output, b.output.Main.SHA256
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
	marks := make([]string, len(list))
	for i, b := range list {
		o := b.output
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
