package job

import (
	"fmt"
	"strings"
	"time"
)

// Period is how often a job is due, in the words of the reference. The values
// are those of its protocol.
type Period int

// The periods.
const (
	Hourly Period = iota
	Daily
	Weekly
	Never
)

// String is the period's name on the command line.
func (p Period) String() string {
	switch p {
	case Hourly:
		return "hourly"
	case Daily:
		return "daily"
	case Weekly:
		return "weekly"
	case Never:
		return "never"
	}
	return fmt.Sprintf("period %d", int(p))
}

// ParsePeriod is the inverse of String.
func ParsePeriod(s string) (Period, error) {
	for p := Hourly; p <= Never; p++ {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("period %q is unknown: use hourly, daily, weekly or never", s)
}

// Duration is the time between two runs, 0 for Never.
func (p Period) Duration() time.Duration {
	switch p {
	case Hourly:
		return time.Hour
	case Daily:
		return 24 * time.Hour
	case Weekly:
		return 7 * 24 * time.Hour
	case Never:
	}
	return 0
}

// Plan says when a job is due: by Cron if that is set, else by Every if that is
// positive, else by Period.
type Plan struct {
	Period Period
	Every  time.Duration
	Cron   string // five fields, as in crontab(5), or @daily and the like
	Zone   string // IANA name of the zone that Cron is read in; "" is UTC
}

// String shows a plan as the command line takes it.
func (p Plan) String() string {
	switch {
	case p.Cron != "" && p.Zone != "":
		return fmt.Sprintf("cron %q %s", p.Cron, p.Zone)
	case p.Cron != "":
		return fmt.Sprintf("cron %q", p.Cron)
	case p.Every > 0:
		every := p.Every.String() // 1h0m0s
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(every, zero) {
				every = every[:len(every)-2]
			}
		}
		return "every " + every
	}
	return p.Period.String()
}

// Legacy is the period that a client of the reference's protocol is shown: it
// can decode no other. For a cron expression or an interval that is Never; the
// next time beside it is the true one.
func (p Plan) Legacy() Period {
	if p.Cron == "" && p.Every == 0 {
		return p.Period
	}
	return Never
}
