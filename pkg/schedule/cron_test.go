package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func location(t *testing.T, zone string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// cronTimes are the first n times of an expression after a time.
func cronTimes(plan job.Plan, after time.Time, n int) []time.Time {
	var times []time.Time
	for range n {
		after = schedule.Next(plan, after, after)
		times = append(times, after)
	}
	return times
}

// TestCronClockChanges has the changes that matter, by hand.
func TestCronClockChanges(t *testing.T) {
	const layout = "2006-01-02T15:04Z07:00"
	tests := []struct {
		name, zone, cron string
		after            string
		want             []string
	}{
		{"fixed hour in the gap", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00+01:00", []string{
			"2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00",
		}},
		{"several minutes in the gap are one run", "Europe/Berlin", "*/10 2 * * *", "2026-03-29T01:00+01:00", []string{
			"2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00",
		}},
		{"the gap's end is asked for, too", "Europe/Berlin", "0 2,3 * * *", "2026-03-29T01:00+01:00", []string{
			"2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00",
		}},
		{"fixed hour that comes twice", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00+02:00", []string{
			"2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00",
		}},
		{"asked between the two", "Europe/Berlin", "30 2 * * *", "2026-10-25T02:40+02:00", []string{
			"2026-10-26T02:30+01:00",
		}},
		{"asked in the second", "Europe/Berlin", "30 2 * * *", "2026-10-25T02:10+01:00", []string{
			"2026-10-26T02:30+01:00",
		}},
		{"after the second", "Europe/Berlin", "0 3 * * *", "2026-10-25T02:10+02:00", []string{
			"2026-10-25T03:00+01:00",
		}},
		{"each hour, in spring", "Europe/Berlin", "15 * * * *", "2026-03-29T00:20+01:00", []string{
			"2026-03-29T01:15+01:00", "2026-03-29T03:15+02:00", "2026-03-29T04:15+02:00",
		}},
		{"each hour, in autumn", "Europe/Berlin", "15 * * * *", "2026-10-25T01:20+02:00", []string{
			"2026-10-25T02:15+02:00", "2026-10-25T02:15+01:00", "2026-10-25T03:15+01:00",
		}},
		{"step in the hour, the hour does not exist", "Europe/Berlin", "0 */2 * * *", "2026-03-29T00:00+01:00", []string{
			"2026-03-29T04:00+02:00",
		}},
		{"step in the hour, the hour comes twice", "Europe/Berlin", "0 */2 * * *", "2026-10-25T00:00+02:00", []string{
			"2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T04:00+01:00",
		}},
		{"New York, spring", "America/New_York", "30 2 * * *", "2026-03-07T12:00-05:00", []string{
			"2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00",
		}},
		{"half an hour skipped", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00+10:30", []string{
			"2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00",
		}},
		{"half an hour twice, fixed", "Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00+11:00", []string{
			"2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30",
		}},
		{"half an hour twice, each hour", "Australia/Lord_Howe", "45 * * * *", "2026-04-05T01:00+11:00", []string{
			"2026-04-05T01:45+11:00", "2026-04-05T01:45+10:30", "2026-04-05T02:45+10:30",
		}},
		{"no change in India", "Asia/Kolkata", "30 2 * * *", "2026-03-28T12:00+05:30", []string{
			"2026-03-29T02:30+05:30", "2026-03-30T02:30+05:30",
		}},
		{"no midnight in Brazil", "America/Sao_Paulo", "0 0 * * *", "2017-10-14T12:00-03:00", []string{
			"2017-10-15T01:00-02:00", "2017-10-16T00:00-02:00",
		}},
		{"two midnights, almost, in Brazil", "America/Sao_Paulo", "30 23 * * *", "2018-02-17T12:00-02:00", []string{
			"2018-02-17T23:30-02:00", "2018-02-18T23:30-03:00",
		}},
		{"no midnight in Lebanon", "Asia/Beirut", "@daily", "2026-03-28T12:00+02:00", []string{
			"2026-03-29T01:00+03:00", "2026-03-30T00:00+03:00",
		}},
		{"no midnight on the first of the month", "America/Asuncion", "@monthly", "2017-09-30T12:00-04:00", []string{
			"2017-10-01T01:00-03:00", "2017-11-01T00:00-03:00",
		}},
		{"no last hour of the day in Greenland", "America/Nuuk", "30 23 * * *", "2024-03-30T12:00-02:00", []string{
			"2024-03-31T00:00-01:00", "2024-03-31T23:30-01:00",
		}},
		{"a day that was skipped", "Pacific/Apia", "0 12 * * *", "2011-12-29T00:00-10:00", []string{
			"2011-12-29T12:00-10:00", "2011-12-31T12:00+14:00",
		}},
		{"hours around a day that was skipped", "Pacific/Apia", "0 */12 * * *", "2011-12-29T01:00-10:00", []string{
			"2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00",
		}},
		{"February in a year like 2100", "", "0 0 29 2 *", "2097-01-01T00:00Z", []string{"2104-02-29T00:00Z"}},
		{"February, each hour, in a year like 2100", "", "0 * 29 2 *", "2096-02-29T23:30Z", []string{"2104-02-29T00:00Z"}},
		{"month's end", "Europe/Berlin", "0 5 31 * *", "2026-03-31T05:00+02:00", []string{"2026-05-31T05:00+02:00"}},
		{"7 is Sunday", "", "0 0 * * 7", "2026-11-07T00:00Z", []string{"2026-11-08T00:00Z", "2026-11-15T00:00Z"}},
		{"7 ends a range", "", "0 0 * * fri-7", "2026-11-07T00:00Z", []string{
			"2026-11-08T00:00Z", "2026-11-13T00:00Z", "2026-11-14T00:00Z", "2026-11-15T00:00Z",
		}},
		{"7 ends a range with a step", "", "0 0 * * 3,5-7/2", "2026-11-07T00:00Z", []string{
			"2026-11-08T00:00Z", "2026-11-11T00:00Z", "2026-11-13T00:00Z", "2026-11-15T00:00Z",
		}},
		{"from Sunday to Sunday", "", "0 0 * * 0-7", "2026-11-07T00:00Z", []string{"2026-11-08T00:00Z", "2026-11-09T00:00Z"}},
		{"day or weekday", "", "0 0 13 * fri", "2026-11-07T00:00Z", []string{"2026-11-13T00:00Z", "2026-11-20T00:00Z"}},
		{"working days", "Europe/Berlin", "30 3 * * mon-fri", "2026-11-20T12:00+01:00", []string{"2026-11-23T03:30+01:00"}},
		{"seconds of the start do not matter", "", "* * * * *", "2026-01-01T00:00Z", []string{"2026-01-01T00:01Z"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			after, err := time.Parse(layout, test.after)
			if err != nil {
				t.Fatal(err)
			}
			plan := job.Plan{Cron: test.cron, Zone: test.zone}
			if err := schedule.CheckPlan(plan); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, next := range cronTimes(plan, after, len(test.want)) {
				got = append(got, next.In(location(t, test.zone)).Format(layout))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("times differ (-want +got):\n%s", diff)
			}
		})
	}
}

// zonesWithChanges are those that the tests below go through.
var zonesWithChanges = []string{
	"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns",
	"America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "America/Nuuk", "Africa/Cairo", "Africa/Casablanca",
	"Antarctica/Troll", "Asia/Pyongyang", "America/Caracas",
}

// changes are the clock changes of a zone in these years.
func changes(zone *time.Location, from, to int) []time.Time {
	var all []time.Time
	t := time.Date(from, 1, 1, 0, 0, 0, 0, zone)
	for {
		_, end := t.ZoneBounds()
		if end.IsZero() || end.Year() > to {
			return all
		}
		all = append(all, end)
		t = end
	}
}

// TestCronOncePerDay: at a fixed hour there is one run on each day that the
// local calendar has, in every zone, over 20 years of changes.
func TestCronOncePerDay(t *testing.T) {
	for _, zone := range zonesWithChanges {
		l := location(t, zone)
		for _, change := range changes(l, 2005, 2024) {
			for _, cron := range []string{"0 0 * * *", "30 0 * * *", "59 1 * * *", "0 2 * * *", "15 2 * * *", "0 3 * * *", "30 23 * * *"} {
				before, after := shown(change.Add(-time.Minute).In(l)), shown(change.In(l))
				if cron == "30 23 * * *" && after.Hour() == 0 && after.Sub(before) > 30*time.Minute && after.Sub(before) < 24*time.Hour {
					continue // 23:30 was skipped: it is at midnight, which is the next day
				}
				days := map[string]int{}
				first := change.Add(-72 * time.Hour).In(l)
				for _, next := range cronTimes(job.Plan{Cron: cron, Zone: zone}, first, 6) {
					days[next.In(l).Format(time.DateOnly)]++
				}
				// From the second day to the last but one, whatever the hour.
				for at := first.Add(26 * time.Hour); at.Before(change.Add(48 * time.Hour)); at = at.Add(time.Hour) {
					if day := at.Format(time.DateOnly); days[day] != 1 {
						t.Fatalf("%s %q around %v: %d runs on %s", zone, cron, change, days[day], day)
					}
				}
			}
		}
	}
}

// fields are a cron expression as sets.
type fields struct {
	minutes, hours []int
	anyHour        bool
	days           []int // nil for *
	weekdays       []int // nil for *
}

func (f fields) String() string {
	list := func(set []int) string {
		if set == nil {
			return "*"
		}
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(set), " ", ","), "[]")
	}
	hours := list(f.hours)
	if f.anyHour {
		hours = "*"
		if f.hours != nil { // a step: the set is that of */n
			hours = fmt.Sprintf("*/%d", f.hours[1])
		}
	}
	return fmt.Sprintf("%s %s %s * %s", list(f.minutes), hours, list(f.days), list(f.weekdays))
}

// matches reports whether a clock that shows w matches.
func (f fields) matches(w time.Time) bool {
	day, weekday := slices.Contains(f.days, w.Day()), slices.Contains(f.weekdays, int(w.Weekday()))
	dayMatches := f.days == nil && f.weekdays == nil || day || weekday // as crontab(5) has it
	return dayMatches && slices.Contains(f.minutes, w.Minute()) && (f.hours == nil || slices.Contains(f.hours, w.Hour()))
}

func randomFields(r *rand.Rand) fields {
	set := func(low, high, most int) []int {
		var s []int
		for range 1 + r.IntN(most) {
			s = append(s, low+r.IntN(high-low+1))
		}
		slices.Sort(s)
		return slices.Compact(s)
	}
	f := fields{minutes: set(0, 59, 4)}
	switch r.IntN(4) {
	case 0:
		f.anyHour = true
	case 1:
		f.anyHour = true
		for step, h := 2+r.IntN(5), 0; h < 24; h += step {
			f.hours = append(f.hours, h)
		}
	case 2:
		f.hours = set(0, 4, 3) // where the clock changes
	default:
		f.hours = set(0, 23, 5)
	}
	if r.IntN(3) == 0 {
		f.days = set(1, 28, 12)
	}
	if r.IntN(3) == 0 {
		f.weekdays = set(0, 6, 4)
	}
	return f
}

// shown is what a clock shows, as if it were in UTC.
func shown(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
}

// oracle lists the instants that match, minute by minute.
func oracle(f fields, zone *time.Location, from, to time.Time) []time.Time {
	var clock []time.Time // what a clock shows at each minute
	for t := from; !t.After(to); t = t.Add(time.Minute) {
		clock = append(clock, shown(t.In(zone)))
	}
	at := func(i int) time.Time { return from.Add(time.Duration(i) * time.Minute).UTC() }
	var found []time.Time
	if f.anyHour {
		for i, w := range clock {
			if f.matches(w) {
				found = append(found, at(i))
			}
		}
		return found
	}
	day := func(w time.Time) int64 { return w.Unix() / (24 * 3600) }
	days := map[int64]bool{}
	for _, w := range clock {
		days[day(w)] = true
	}
	first := 0 // the first minute that shows w or later
	for w := clock[0]; w.Before(clock[len(clock)-1]); w = w.Add(time.Minute) {
		for clock[first].Before(w) {
			first++
		}
		if f.matches(w) && days[day(w)] {
			found = append(found, at(first))
		}
	}
	return slices.CompactFunc(found, time.Time.Equal)
}

// TestCronOracle compares random expressions around all changes of the clock
// with a search minute by minute.
func TestCronOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(newSeed(t), 0))
	for _, zone := range zonesWithChanges {
		l := location(t, zone)
		around := append(changes(l, 2009, 2019), time.Date(2015, 2, 27, 0, 0, 0, 0, l))
		for _, change := range around {
			f := randomFields(r)
			from := change.Add(-50 * time.Hour).Truncate(time.Minute)
			to := change.Add(50 * time.Hour)
			want := oracle(f, l, from, to)
			plan := job.Plan{Cron: f.String(), Zone: zone}
			if err := schedule.CheckPlan(plan); err != nil {
				t.Fatal(err)
			}
			var got []time.Time
			for next := schedule.Next(plan, from, from.Add(-time.Second)); !next.IsZero() && next.Before(to.Add(-time.Hour)); {
				got = append(got, next)
				next = schedule.Next(plan, next, next)
			}
			late := func(at time.Time) bool { return !at.Before(to.Add(-time.Hour)) }
			if diff := cmp.Diff(slices.DeleteFunc(want, late), got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s %q around %v (-oracle +got):\n%s", zone, f, change, diff)
			}
		}
	}
}

func TestCheckPlan(t *testing.T) {
	tests := []struct {
		name string
		plan job.Plan
		want string // part of the error, "" for none
	}{
		{"hourly", job.Plan{Period: job.Hourly}, ""},
		{"never", job.Plan{Period: job.Never}, ""},
		{"unknown period", job.Plan{Period: 7}, "period 7 is unknown"},
		{"interval", job.Plan{Every: 90 * time.Minute}, ""},
		{"shortest interval", job.Plan{Every: time.Second}, ""},
		{"shorter interval", job.Plan{Every: time.Millisecond}, "use 1s to 10 years"},
		{"negative interval", job.Plan{Every: -time.Hour}, "use 1s to 10 years"},
		{"longer than ten years", job.Plan{Every: 11 * 365 * 24 * time.Hour}, "use 1s to 10 years"},
		{"a microsecond", job.Plan{Every: time.Second + time.Microsecond}, "whole milliseconds"},
		{"zone without cron", job.Plan{Every: time.Hour, Zone: "Europe/Berlin"}, "without use"},
		{"cron", job.Plan{Cron: "30 3 * * mon-fri", Zone: "Europe/Berlin"}, ""},
		{"descriptor", job.Plan{Cron: "@weekly"}, ""},
		{"cron and interval", job.Plan{Cron: "@daily", Every: time.Hour}, "use one"},
		{"unknown zone", job.Plan{Cron: "@daily", Zone: "Europe/Atlantis"}, "use a name such as Europe/Berlin"},
		{"the machine's zone", job.Plan{Cron: "@daily", Zone: "Local"}, "use a name such as Europe/Berlin"},
		{"a file as zone", job.Plan{Cron: "@daily", Zone: "../../etc/passwd"}, "use a name such as Europe/Berlin"},
		{"zone inside", job.Plan{Cron: "TZ=UTC 0 0 * * *"}, "give the zone beside it"},
		{"zone inside that would panic", job.Plan{Cron: "TZ=0"}, "give the zone beside it"},
		{"other zone inside", job.Plan{Cron: "CRON_TZ=UTC 0 0 * * *"}, "give the zone beside it"},
		{"every inside", job.Plan{Cron: "@every 1h"}, "give an interval"},
		{"30 February", job.Plan{Cron: "0 0 30 2 *"}, "no day matches"},
		{"31 of short months", job.Plan{Cron: "0 0 31 4,6,9,11 *"}, "no day matches"},
		{"29 February", job.Plan{Cron: "0 0 29 2 *"}, ""},
		{"30 February or a Monday", job.Plan{Cron: "0 0 30 2 mon"}, ""},
		{"empty field", job.Plan{Cron: ", * * * *"}, `the minute is ","`},
		{"six fields", job.Plan{Cron: "0 0 0 * * *"}, "use five fields (minute, hour, day of the month, month, day of the week), or one of @hourly"},
		{"three fields", job.Plan{Cron: "* * *"}, "use five fields"},
		{"no field", job.Plan{Cron: " \t"}, "use five fields"},
		{"tabs", job.Plan{Cron: "0\t0\t*\t*\tmon"}, ""},
		{"an unknown name", job.Plan{Cron: "@noon"}, "use five fields"},
		{"a name among fields", job.Plan{Cron: "@daily * * * *"}, `the minute is "@daily"`},
		{"minute 60", job.Plan{Cron: "60 0 * * mon"}, `"60 0 * * mon" is not allowed: the minute is "60": use 0 to 59; several`},
		{"a negative hour", job.Plan{Cron: "0 -1 * * *"}, `the hour is "-1": use 0 to 23`},
		{"day 0", job.Plan{Cron: "0 0 0 * *"}, `the day of the month is "0": use 1 to 31`},
		{"a month in letters", job.Plan{Cron: "0 0 1 mai *"}, `the month is "mai": use 1 to 12, or jan to dec`},
		{"a day that is none", job.Plan{Cron: "0 0 * * 1,8"}, `the day of the week is "1,8": use 0 to 7, or sun to sat`},
		{"a range downwards", job.Plan{Cron: "0 0 * * fri-mon"}, `the day of the week is "fri-mon": use 0 to 7, or sun to sat; several with commas, a range upwards`},
		{"no step", job.Plan{Cron: "*/0 * * * *"}, `the minute is "*/0"`},
		{"letters", job.Plan{Cron: "every day at noon please"}, `the minute is "every"`},
		{"too long", job.Plan{Cron: strings.Repeat("1,", 200) + "1 * * * *"}, "longer than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := schedule.CheckPlan(test.plan)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func FuzzCheckPlan(f *testing.F) {
	f.Add("30 3 * * mon-fri", "Europe/Berlin")
	f.Add("TZ=0", "")
	f.Add("*/15 0-4/2,7 ? jan sun,6", "Asia/Kolkata")
	f.Fuzz(func(t *testing.T, cron, zone string) {
		plan := job.Plan{Cron: cron, Zone: zone}
		if cron == "" || schedule.CheckPlan(plan) != nil {
			return
		}
		now := start
		for range 3 {
			next := schedule.Next(plan, now, now)
			if !next.After(now) {
				t.Fatalf("%v is accepted; after %v comes %v", plan, now, next)
			}
			now = next
		}
	})
}
