package schedule

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the zones of machines that have none

	"github.com/robfig/cron/v3"
)

// cronSpec is a cron expression in its zone.
//
// The package cron is used to parse it and to count on a wall clock that is
// never changed, one in UTC. What a change of the real clock means is decided
// here, since people do not mean what that package does with it:
//
//   - At fixed hours, once per local day. A time that is skipped is at the
//     first instant after the gap, one that comes twice is at the first; on a
//     day that is skipped as a whole there is nothing to do.
//   - With *, ? or a step in the hour field, by elapsed time: at each instant
//     at which a clock on the wall shows a time that matches, so twice in a
//     repeated hour, and never in a gap.
type cronSpec struct {
	expression string
	spec       *cron.SpecSchedule // in UTC
	zone       *time.Location
	elapsed    bool
}

// maxCron is the longest expression, in octets.
const maxCron = 200

// horizon is how far a match may be away: 29 February is 8 years away before a
// year like 2100, and the parser's notation knows nothing rarer.
const horizon = 9 * 366 * 24 * time.Hour

// parseCron reads five fields as in crontab(5), or @daily and the like.
func parseCron(expression, zone string) (*cronSpec, error) {
	refuse := func(why string) (*cronSpec, error) {
		return nil, fmt.Errorf("the cron expression %q is not allowed: %s", expression, why)
	}
	switch {
	case len(expression) > maxCron:
		return nil, fmt.Errorf("the cron expression is longer than %d octets", maxCron)
	case strings.Contains(expression, "TZ="):
		return refuse("give the zone beside it (--tz)") // and TZ=0 makes the parser panic
	case strings.Contains(expression, "@every"):
		return refuse("give an interval instead (--every)")
	}
	location, err := loadZone(zone)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(expression)
	spec, ok := parseFields(fields)
	if !ok {
		return refuse(wrongIn(fields))
	}
	spec.Location = time.UTC
	return &cronSpec{
		expression: expression,
		spec:       spec,
		zone:       location,
		elapsed:    fields[0] == "@hourly" || len(fields) == len(cronFields) && strings.ContainsAny(fields[1], "*?/"),
	}, nil
}

// zones keeps those that were loaded, there are some hundred: at midnight one is
// asked for many times, and time.LoadLocation reads files. They are the one
// thing here that comes from the machine. They matter to decisions only: what
// is decided is a time, so events mean the same everywhere.
var zones sync.Map

// loadZone finds a zone by its IANA name; "" is UTC.
func loadZone(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // whatever the machine has
		return nil, fmt.Errorf("the zone %q is unknown: use a name such as Europe/Berlin", name)
	}
	zones.Store(name, zone)
	return zone, nil
}

// check finds expressions that never match.
func (c *cronSpec) check() error {
	// The start does not matter: the calendar repeats, and the horizon is longer
	// than the longest gap in it.
	if c.nextWall(time.Date(2000, 3, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return fmt.Errorf("the cron expression %q is not allowed: no day matches it", c.expression)
	}
	return nil
}

// next is the first instant after now that matches, zero if there is none.
func (c *cronSpec) next(now time.Time) time.Time {
	now = now.In(c.zone)
	if c.elapsed {
		return c.nextElapsed(now)
	}
	// Later walls are never at earlier instants, so none before now's matters.
	for w := c.nextWall(wall(now)); !w.IsZero(); w = c.nextWall(w) {
		if t, exists := c.at(w); exists && t.After(now) {
			return t
		}
	}
	return time.Time{}
}

// nextElapsed searches one stretch without a clock change after the other.
func (c *cronSpec) nextElapsed(now time.Time) time.Time {
	limit := now.Add(horizon)
	from := wall(now)
	for t := now; t.Before(limit); {
		_, end := t.ZoneBounds()
		w := c.nextWall(from)
		if w.IsZero() {
			return time.Time{}
		}
		if found := t.Add(w.Sub(wall(t))); end.IsZero() || found.Before(end) {
			return found
		}
		t = end
		from = wall(end).Add(-time.Second) // the first instant may match, too
	}
	return time.Time{}
}

// nextWall is the first wall time after w that matches, zero if there is none.
func (c *cronSpec) nextWall(w time.Time) time.Time {
	limit := w.Add(horizon)
	for w.Before(limit) {
		if next := c.spec.Next(w); !next.IsZero() {
			return next
		}
		// It has looked through five years after this one.
		w = time.Date(w.Year()+5, time.December, 31, 23, 59, 59, 0, time.UTC)
	}
	return time.Time{}
}

// wall is what a clock in t's zone shows, as if that were UTC.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// at is the first instant at which a clock shows w or later: if w is skipped,
// the one after the gap. exists is false when all of w's day is skipped.
func (c *cronSpec) at(w time.Time) (t time.Time, exists bool) {
	// No offset is as large as this, so this is earlier.
	t = w.Add(-48 * time.Hour).In(c.zone)
	for {
		_, end := t.ZoneBounds()
		found := t.Add(w.Sub(wall(t)))
		if end.IsZero() || found.Before(end) {
			return found, true
		}
		gap, after := wall(t).Add(end.Sub(t)), wall(end)
		if after.After(w) {
			day := time.Date(w.Year(), w.Month(), w.Day(), 0, 0, 0, 0, time.UTC)
			if !day.Before(gap) && !day.AddDate(0, 0, 1).After(after) {
				return time.Time{}, false
			}
			return end, true
		}
		t = end
	}
}
