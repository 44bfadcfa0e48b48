package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func info(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the schedule, the queues, what runs and who waits",
		Example: `  builder-client info
  builder-client info --json | jq -r '.jobs[].name'`,
		Args: arguments(),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), statusJSON(status))
			}
			if own, err := c.Own(cmd.Context()); err == nil && !own {
				fmt.Fprintln(cmd.ErrOrStderr(), c.Cannot("tell of run ids, tries and workers"))
			}
			return writeStatus(cmd.OutOrStdout(), status, time.Now())
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	return cmd
}

// writeStatus shows a status to people.
func writeStatus(out io.Writer, s wire.StatusReply, now time.Time) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.section("Schedule", "no jobs", "JOB", "PLATFORM", "WHAT", "PLAN", "NEXT")
	for _, j := range s.Jobs {
		t.row(quoted(j.Job.Name), platformOf(j.Job), whatOf(j.Job), harmless(j.Plan.String()), due(j.Next, now))
	}
	t.section("Queued", "nothing waits", "PLATFORM", "RUN", "JOB", "WAITING", "TRIES")
	for _, p := range s.Platforms {
		for _, run := range p.Queue {
			t.row(quoted(p.Name), runID(run.ID), quoted(run.Job.Name), since(run.Asked, now), tries(run, now))
		}
	}
	t.section("Running", "no builds", "JOB", "PLATFORM", "WORKER", "BUILD", "ELAPSED")
	for _, b := range s.Building {
		t.row(quoted(b.Job), quoted(b.Platform), orDash(b.Worker), b.UUID.String(), since(b.Started, now))
	}
	t.section("Waiting workers", "none", "PLATFORM", "WORKER", "ADDRESS", "WAITING")
	for _, p := range s.Platforms {
		for _, w := range p.Workers {
			if w.Build == uuid.Nil {
				t.row(quoted(p.Name), orDash(w.Name), orDash(w.Address), since(w.Since, now))
			}
		}
	}
	t.section("Dropped platforms", "none", "PLATFORM")
	for _, p := range s.Platforms {
		if p.Dropped {
			t.row(quoted(p.Name))
		}
	}
	return t.close()
}

// table writes sections of aligned columns; one without rows says so.
type table struct {
	w       *tabwriter.Writer
	pending string // what an empty section says
	head    []string
	err     error
}

func (t *table) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *table) section(title, empty string, head ...string) {
	if t.pending != "" {
		t.printf("%s", t.pending)
	}
	if t.head != nil {
		t.printf("\n")
	}
	t.printf("%s\n", title)
	t.pending, t.head = "  "+empty+"\n", head
}

func (t *table) row(cells ...string) {
	if t.pending != "" {
		t.pending = ""
		t.row(t.head...)
	}
	t.printf("  %s\n", strings.Join(cells, "\t"))
}

func (t *table) close() error {
	t.printf("%s", t.pending)
	if t.err == nil {
		t.err = t.w.Flush()
	}
	return t.err
}

func platformOf(j job.Job) string {
	if j.Platform == "" {
		return "(all that can)"
	}
	return quoted(j.Platform)
}

// whatOf tells what a job is made of.
func whatOf(j job.Job) string {
	if opamPackage, ok := j.IsOrbBuild(); ok {
		return "orb build of " + quoted(opamPackage)
	}
	if j.Template == "" {
		return "script"
	}
	text := "template " + quoted(j.Template)
	for _, v := range j.Vars {
		text += " " + quoted(v.Name) + "=" + quoted(v.Value)
	}
	return text
}

func runID(id uint64) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}

func tries(run job.Run, now time.Time) string {
	if run.After.After(now) {
		return fmt.Sprintf("%d, the next %s", run.Tries, relative(run.After.Sub(now)))
	}
	return fmt.Sprint(run.Tries)
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(max(0, now.Sub(t)))
}

func orDash(name string) string {
	if name == "" {
		return "-"
	}
	return quoted(name)
}
