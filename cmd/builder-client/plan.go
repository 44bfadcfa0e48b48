package main

import (
	"time"

	"builder/pkg/job"
	"builder/pkg/program"

	"github.com/spf13/cobra"
)

// planFlags are those that say when a job is due.
type planFlags struct {
	period, cron, zone string
	every              time.Duration
}

func (p *planFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.period, "period", "daily", "`how` often it is due: hourly, daily, weekly, never; and at once")
	f.Var(program.Time(&p.every, 0, time.Second), "every", "`interval` between two runs, such as 90m or 36h; and at once")
	f.StringVar(&p.cron, "cron", "", "`expression` of five fields, as in crontab(5); not at once")
	f.StringVar(&p.zone, "tz", "", "`zone` that the cron expression is read in, such as Europe/Berlin (default UTC)")
}

// plan makes what the flags say. Whether the server can keep it, it says.
func (p *planFlags) plan(cmd *cobra.Command) (job.Plan, error) {
	changed := cmd.Flags().Changed
	given := 0
	for _, name := range []string{"period", "every", "cron"} {
		if changed(name) {
			given++
		}
	}
	switch {
	case given > 1:
		return job.Plan{}, usagef("use one of --period, --every and --cron")
	case changed("tz") && !changed("cron"):
		return job.Plan{}, usagef("--tz goes with --cron only")
	case changed("cron") && p.cron == "":
		return job.Plan{}, usagef(`--cron "": the expression is empty`)
	case changed("every"):
		return job.Plan{Every: p.every}, nil
	case changed("cron"):
		return job.Plan{Cron: p.cron, Zone: p.zone}, nil
	}
	period, err := parsePeriod(p.period)
	return job.Plan{Period: period}, err
}

func parsePeriod(s string) (job.Period, error) {
	period, err := job.ParsePeriod(s)
	if err != nil {
		return 0, usagef("--period: %w", err)
	}
	return period, nil
}
