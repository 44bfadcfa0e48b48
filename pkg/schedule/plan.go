package schedule

import (
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
)

// minEvery is the smallest job.Plan.Every: whoever wants less wants a daemon.
const minEvery = time.Second

// CheckPlan tells whether a plan can be kept: one of a period, an interval of 1
// second to 10 years in whole milliseconds, or a cron expression that matches
// some time, in a zone that is known.
func CheckPlan(plan job.Plan) error {
	if plan.Cron != "" {
		if plan.Every != 0 {
			return errors.New("it has both an interval and a cron expression: use one")
		}
		c, err := parseCron(plan.Cron, plan.Zone)
		if err != nil {
			return err
		}
		return c.check()
	}
	switch {
	case plan.Zone != "":
		return fmt.Errorf("the zone %q is without use: only a cron expression has one", plan.Zone)
	case plan.Every != 0 && (plan.Every < minEvery || plan.Every > job.MaxTime):
		return fmt.Errorf("the interval %v is not allowed: use 1s to 10 years", plan.Every)
	case plan.Every%time.Millisecond != 0:
		return fmt.Errorf("the interval %v is not allowed: use whole milliseconds", plan.Every)
	case plan.Period < job.Hourly || plan.Period > job.Never:
		return fmt.Errorf("%v is unknown", plan.Period)
	}
	return nil
}

// First is when a job is due that is scheduled now, zero if never.
func First(plan job.Plan, now time.Time) time.Time {
	return Next(plan, planned(now), now)
}

// Next is the first time of the plan after now, zero if there is none: for a
// period or an interval the last planned time plus a multiple of it, for a cron
// expression what that says. Runs that start late make no later run late.
func Next(plan job.Plan, last, now time.Time) time.Time {
	if plan.Cron != "" {
		c, err := parseCron(plan.Cron, plan.Zone)
		if err != nil {
			return time.Time{} // it was checked when it entered the schedule
		}
		return within(c.next(now))
	}
	step := plan.Every
	if step == 0 {
		step = plan.Period.Duration()
	}
	if step <= 0 {
		return time.Time{}
	}
	next := last.Add(step)
	if !next.After(now) {
		missed := now.Sub(last) / step
		next = last.Add((missed + 1) * step)
	}
	return within(next)
}

// within is t, or never when a record can not carry it.
func within(t time.Time) time.Time {
	if t.IsZero() || t.After(latest) {
		return time.Time{}
	}
	return planned(t)
}
