package main

import (
	"fmt"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

func reschedule(o *options) *cobra.Command {
	var period string
	cmd := &cobra.Command{
		Use:   "reschedule NAME TIME",
		Short: "Set the time that a job is due next",
		Long: `Reschedule sets exactly the time given, and does not run anything. TIME is

  2026-03-29T03:30:00Z       RFC 3339, with or without seconds and zone
  "2026-03-29 03:30"         the same; without a zone it is local time
  now, +90m                  now or later, by this machine's clock
  never                      not until it is executed or rescheduled

With --period the job's plan becomes that.`,
		Example: `  builder-client reschedule nightly "2026-03-29 03:30"
  builder-client reschedule nightly +90m --period weekly`,
		Args:              arguments("NAME", "TIME"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			next, err := parseTime(args[1], time.Now())
			if err != nil {
				return err
			}
			var changed *job.Period
			if cmd.Flags().Changed("period") {
				p, err := parsePeriod(period)
				if err != nil {
					return err
				}
				changed = &p
			}
			accepted, err := c.Reschedule(cmd.Context(), args[0], next, changed)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "job %s is rescheduled\n", quoted(args[0]))
			return reportNext(cmd, c, out, args[0], accepted)
		}),
	}
	cmd.Flags().StringVar(&period, "period", "", "also change `how` often it is due: hourly, daily, weekly, never")
	return cmd
}

// timeLayouts are what parseTime reads; those without a zone are local time.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02 15:04:05", "2006-01-02 15:04",
}

// What the protocol can carry; its last second stands for never. The server may
// take less and says so.
var (
	firstTime = time.Unix(0, 0).UTC()
	lastTime  = wire.Never.Truncate(time.Second)
)

// parseTime reads the TIME of the command line.
func parseTime(s string, now time.Time) (time.Time, error) {
	switch {
	case s == "never":
		return wire.Never, nil
	case s == "now":
		return now, nil
	case strings.HasPrefix(s, "+"):
		d, err := time.ParseDuration(s[1:])
		if err != nil || d < 0 {
			return time.Time{}, usagef("time %q: write +90m, +36h or +1h30m", s)
		}
		return now.Add(d), nil
	}
	for _, layout := range timeLayouts {
		t, err := time.ParseInLocation(layout, s, time.Local)
		if err != nil {
			continue
		}
		if t.Before(firstTime) || !t.Before(lastTime) {
			return time.Time{}, usagef("time %q is out of range: use one from %s until before %s, or never",
				s, firstTime.Format(time.RFC3339), lastTime.Format(time.RFC3339))
		}
		return t, nil
	}
	return time.Time{}, usagef("time %q is not understood: write 2026-03-29T03:30:00Z, \"2026-03-29 03:30\", now, +90m or never", s)
}
