package main_test

import (
	"testing"
	"time"

	cli "builder/cmd/builder-client"

	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.FixedZone("", 3600)
	half := time.Date(2026, 3, 29, 3, 30, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"now":                         now,
		"never":                       wire.Never,
		"+90m":                        now.Add(90 * time.Minute),
		"+1h30m5s":                    now.Add(90*time.Minute + 5*time.Second),
		"+0s":                         now,
		"2026-03-29T03:30:00Z":        half,
		"2026-03-29T03:30:00.5Z":      half.Add(500 * time.Millisecond),
		"2026-03-29T05:30:00+02:00":   half,
		"2026-03-29T03:30Z":           half,
		"2026-03-29T05:30+02:00":      half,
		"2026-03-29T04:30:00":         half,
		"2026-03-29T04:30":            half,
		"2026-03-29 04:30":            half,
		"2026-03-29 04:30:00":         half,
		"2026-03-29 03:30Z":           half,
		"2026-03-29 05:30:00+02:00":   half,
		"1970-01-01T00:00:00Z":        time.Unix(0, 0),
		"1969-12-31T23:59:59Z":        {},
		"0001-01-01T00:00:00Z":        {},
		"9999-12-31T23:59:58Z":        time.Date(9999, 12, 31, 23, 59, 58, 0, time.UTC),
		"9999-12-31T23:59:59Z":        {},
		"":                            {},
		"90m":                         {},
		"+":                           {},
		"+-90m":                       {},
		"-90m":                        {},
		"+90":                         {},
		"+1d":                         {},
		"tomorrow":                    {},
		"2026-03-29":                  {},
		"2026-02-30 03:30":            {},
		"2026-03-29 03:30 tomorrow":   {},
		"2026-03-29T03:30:00Z\x1b[2J": {},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := cli.ParseTime(text, now)
			if wrong := want.IsZero(); wrong != (err != nil) || !wrong && !got.Equal(want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestRelative(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"now":            999 * time.Millisecond,
		"in 1.5 s":       1500 * time.Millisecond,
		"in 59 s":        time.Minute - time.Nanosecond,
		"in 1 min 0 s":   time.Minute,
		"in 59 min 59 s": time.Hour - time.Second,
		"in 2 h 13 min":  2*time.Hour + 13*time.Minute + 59*time.Second,
		"in 47 h 59 min": 48*time.Hour - time.Second,
		"in 2 d 0 h":     48 * time.Hour,
		"in 365 d 1 h":   365*24*time.Hour + time.Hour,
		"1 min 30 s ago": -90 * time.Second,
		"3 d 0 h ago":    -72 * time.Hour,
	} {
		t.Run(want, func(t *testing.T) {
			if got := cli.Relative(d); got != want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestQuoted(t *testing.T) {
	for name, want := range map[string]string{
		"debian-12":     "debian-12",
		"größe":         "größe",
		"":              `""`,
		"a b":           `"a b"`,
		"a\tb":          `"a\tb"`,
		"\x1b[2J":       `"\x1b[2J"`,
		"\x9b2J":        `"\x9b2J"`,
		"\u009b2J":      `"\u009b2J"`,
		"\xff":          `"\xff"`,
		"\u202egnp.exe": `"\u202egnp.exe"`,
		`say "a"`:       `"say \"a\""`,
		`back\slash`:    `"back\\slash"`,
		"a\u00a0b":      `"a\u00a0b"`,
	} {
		t.Run(want, func(t *testing.T) {
			if got := cli.Quoted(name); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestHarmless(t *testing.T) {
	got := cli.Harmless("cancelled: \"no\" \x1b[2J\nnext größe")
	if diff := cmp.Diff(`cancelled: "no" \x1b[2J\nnext größe`, got); diff != "" {
		t.Error(diff)
	}
}
