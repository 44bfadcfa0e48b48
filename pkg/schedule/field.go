package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/robfig/cron/v3"
)

// cronFields are the fields of an expression in their order, with what each takes.
var cronFields = [...]struct{ name, values string }{
	{"minute", "0 to 59"},
	{"hour", "0 to 23"},
	{"day of the month", "1 to 31"},
	{"month", "1 to 12, or jan to dec"},
	{"day of the week", "0 to 7, or sun to sat"},
}

// parseFields reads the fields of an expression, or the one that is @daily and the
// like; ok is false when they are none.
func parseFields(fields []string) (spec *cron.SpecSchedule, ok bool) {
	if len(fields) == len(cronFields) {
		fields = slices.Clone(fields)
		fields[4] = sundays(fields[4])
	}
	schedule, err := cron.ParseStandard(strings.Join(fields, " "))
	if err != nil {
		return nil, false
	}
	spec, ok = schedule.(*cron.SpecSchedule)
	// A field such as "," is none, and is taken.
	return spec, ok && spec.Minute != 0 && spec.Hour != 0 && spec.Dom != 0 && spec.Month != 0 && spec.Dow != 0
}

// wrongIn tells people which of the fields that are refused is wrong.
func wrongIn(fields []string) string {
	if len(fields) == len(cronFields) {
		for i, field := range cronFields {
			alone := strings.Fields("* * * * *")
			alone[i] = fields[i]
			if _, ok := parseFields(alone); !ok {
				return fmt.Sprintf("the %s is %q: use %s; several with commas, a range upwards as in 1-5, a step as in */2, or *", field.name, fields[i], field.values)
			}
		}
	}
	return "use five fields (minute, hour, day of the month, month, day of the week), or one of @hourly @daily @weekly @monthly @yearly"
}

// sundays writes the days of the week without 7, which crontab(5) has for Sunday
// beside 0, and the parser has not. What is no day is left for that to refuse.
func sundays(field string) string {
	parts := strings.Split(field, ",")
	for i, part := range parts {
		days, step, _ := strings.Cut(part, "/")
		first, last, ranged := strings.Cut(days, "-")
		if !ranged {
			last = first
		}
		from := weekday(first)
		by, err := strconv.Atoi(cmp.Or(step, "1"))
		if last != "7" || from < 0 || err != nil || by < 1 {
			continue
		}
		var listed []string
		for day := from; day <= 7; day += min(by, 8) {
			listed = append(listed, strconv.Itoa(day%7))
		}
		parts[i] = strings.Join(listed, ",")
	}
	return strings.Join(parts, ",")
}

// weekday is the number of a day, Sunday's is 0, and -1 if there is no such day.
func weekday(day string) int {
	number, err := strconv.Atoi(day)
	if err != nil {
		number = slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, strings.ToLower(day))
	}
	if number < 0 || number > 7 {
		return -1
	}
	return number
}
