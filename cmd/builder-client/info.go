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
	if s.Paused != "" {
		t.printf("No builds are handed out: %s\n\n", harmless(s.Paused))
	}
	t.section("Schedule", "no jobs", "JOB", "PLATFORM", "WHAT", "PLAN", "NEXT")
	parked := map[string]bool{}
	for _, j := range s.Jobs {
		next := due(j.Next, now)
		if j.Parked {
			parked[j.Job.Name] = true
			next = "parked: it ended its workers; execute frees it"
		}
		t.row(quoted(j.Job.Name), platformOf(j.Job), whatOf(j.Job), harmless(j.Plan.String()), next)
	}
	t.writeLimits(s.Jobs)
	t.section("Queued", "nothing waits", "PLATFORM", "RUN", "JOB", "WAITING", "TRIES")
	for _, p := range s.Platforms {
		for _, run := range p.Queue {
			t.row(quoted(p.Name), number(run.ID), quoted(run.Job.Name), since(run.Asked, now), tries(run, parked[run.Job.Name], now))
		}
	}
	t.section("Running", "no builds", "JOB", "PLATFORM", "WORKER", "BUILD", "ELAPSED")
	for _, b := range s.Building {
		t.row(quoted(b.Job), quoted(b.Platform), workerOf(b, now), b.UUID.String(), since(b.Started, now))
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
	if len(s.Remotes) > 0 {
		t.writeRemotes(s.Remotes)
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

// writeLimits shows the jobs whose limits or retries are not the defaults, if there
// are any.
func (t *table) writeLimits(jobs []wire.JobStatus) {
	begun := false
	for _, j := range jobs {
		limits := limitsOf(j.Job)
		if limits == "" {
			continue
		}
		if !begun {
			begun = true
			t.section("Limits", "", "JOB", "OTHER THAN THE DEFAULTS")
		}
		t.row(quoted(j.Job.Name), limits)
	}
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

// number is one that counts from 1; a server that does not tell it says 0.
func number(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func tries(run job.Run, parked bool, now time.Time) string {
	if parked {
		return fmt.Sprintf("%d, parked", run.Tries)
	}
	if run.After.After(now) {
		return fmt.Sprintf("%d, the next %s", run.Tries, relative(run.After.Sub(now)))
	}
	return fmt.Sprint(run.Tries)
}

// workerOf tells who has a build, and whether it is connected.
func workerOf(b wire.BuildStatus, now time.Time) string {
	if b.Away.IsZero() {
		return orDash(b.Worker)
	}
	return orDash(b.Worker) + " (away for " + since(b.Away, now) + ")"
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
