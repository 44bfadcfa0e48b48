package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// quoted is a name for people: as it is, or in Go's quotes when it is empty or
// has anything in it that a terminal might take for more than text.
func quoted(name string) string {
	plain := name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r == unicode.ReplacementChar || r == '"' || r == '\\' || !unicode.IsGraphic(r) || unicode.IsSpace(r)
	}) < 0
	if plain {
		return name
	}
	return strconv.Quote(name)
}

// harmless is text for people with what is not printable made visible.
func harmless(text string) string {
	q := strconv.Quote(text)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// clock is a time of day for people, where they are.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// due is a future time for people: in local time, and how far away it is.
func due(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04 MST") + " (" + relative(t.Sub(now)) + ")"
}

// relative tells how far away a time is.
func relative(d time.Duration) string {
	switch {
	case d >= time.Second:
		return "in " + span(d)
	case d <= -time.Second:
		return span(-d) + " ago"
	}
	return "now"
}

// span is a duration in its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 2*day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
}

// period is a duration as flags take it, without what is zero at its end: 2h, not
// 2h0m0s.
func period(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
