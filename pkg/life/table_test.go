package life_test

import (
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/life"

	"github.com/google/go-cmp/cmp"
)

// known is what the columns of the table may say of a build.
var known = []struct {
	column string
	words  []string
}{
	{"worker", []string{"there", "away", "never had it", "broke the rules"}},
	{"wish", []string{"no", "yes"}},
	{"`done`", []string{"no", "contents lacking", "complete"}},
	{"decided", []string{"no", "yes"}},
}

// TestTable holds the table in docs/protocol.md against the code: each combination
// of what can be known is found there, and each row is needed.
func TestTable(t *testing.T) {
	rows := tableRows(t)
	used := map[int]bool{}
	combine(nil, func(words []string) {
		i := slices.IndexFunc(rows, func(row []string) bool {
			for column, word := range words {
				if cell := row[1+column]; cell != word && cell != "any" {
					return false
				}
			}
			return true
		})
		if i < 0 {
			t.Errorf("no row for %q", words)
			return
		}
		used[i] = true
		b := buildOf(words)
		step := b.Next(policy, now)
		got := []string{told(b, step), ""}
		if step.Wait > 0 && step.Wait != life.Idle {
			got[1] = told(b, b.Next(policy, now.Add(step.Wait)))
		}
		if diff := cmp.Diff(rows[i][5:], got); diff != "" {
			t.Errorf("%q, row %q (-table +code):\n%s", words, rows[i][0], diff)
		}
	})
	if len(used) != len(rows) {
		t.Errorf("of %d rows only %v are needed", len(rows), slices.Sorted(maps.Keys(used)))
	}
}

// tableRows are the rows below the heading, without their first line and the rule.
func tableRows(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## The life of a build\n")
	if !found {
		t.Fatal("docs/protocol.md has no such section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var rows [][]string
	for line := range strings.Lines(section) {
		if cells := strings.Split(strings.TrimSpace(line), "|"); len(cells) == 9 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells[1:8])
		}
	}
	want := []string{"state", "worker", "wish", "`done`", "decided", "the server", "and then"}
	if len(rows) < 3 || !slices.Equal(rows[0], want) {
		t.Fatalf("no table with the columns %q", want)
	}
	return rows[2:]
}

// combine calls f with all that can be known.
func combine(words []string, f func([]string)) {
	if len(words) == len(known) {
		f(words)
		return
	}
	for _, word := range known[len(words)].words {
		combine(append(slices.Clone(words), word), f)
	}
}

// said is what done tells.
var said = job.Result{Kind: job.Exited, Code: 3}

// buildOf is what the words say.
func buildOf(words []string) life.Build {
	b := life.Build{Started: now}
	switch words[0] {
	case "there":
		b.Connected = true
	case "away":
		b.Away = now
	case "never had it":
		b.Unheard = true
	case "broke the rules":
		condemned := life.Lost(os.ErrInvalid)
		b.Condemned = &condemned
	}
	if words[1] == "yes" {
		b.Wish, b.Told = &ends[cancelled], now
	}
	if words[2] != "no" {
		b.Offered, b.Lacking, b.Result = true, words[2] == "contents lacking", said
		b.Arrived = now
	}
	if words[3] == "yes" {
		b.Decided, b.Result = now, ends[overdue]
	}
	return b
}

// told is a step in the words of the table.
func told(b life.Build, step life.Step) string {
	as := func(r job.Result) string {
		switch {
		case r.Cause == job.WorkerLost:
			return "as worker lost"
		case !b.Decided.IsZero() && r == b.Result:
			return "as decided"
		case b.Wish != nil && r == *b.Wish:
			return "as wished"
		case b.Offered && r == b.Result:
			return "as `done` says"
		}
		return "as " + r.String()
	}
	waits := map[time.Duration]string{
		life.Idle:                            "waits",
		policy.CollectTimeout:                "waits for the collect timeout",
		policy.WorkerGrace:                   "waits for the worker grace",
		policy.Limits.Grace + life.StopSlack: "waits for the grace and 5 s",
		policy.Limits.Timeout + policy.Limits.Grace + life.OverdueSlack: "waits for the timeout, the grace and 15 min",
	}
	switch {
	case step.End != nil && step.Uncounted:
		return "ends it " + as(*step.End) + ", not counted"
	case step.End != nil:
		return "ends it " + as(*step.End)
	case step.Decide != nil:
		return "decides " + as(*step.Decide)
	case step.Overdue:
		return "wishes for its end"
	}
	return waits[step.Wait]
}

// TestOutcome: a wish beats ends that are nobody's, before the result is decided.
func TestOutcome(t *testing.T) {
	tests := map[string]struct {
		said end
		wish bool
		want end
	}{
		"no wish":                       {restarted, false, restarted},
		"the script was faster":         {exited, true, exited},
		"as wished":                     {cancelled, true, cancelled},
		"the worker was restarted":      {restarted, true, cancelled},
		"the worker is told to end":     {shutDown, true, cancelled},
		"there is no place for a build": {noPlace, true, cancelled},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, lacking := range []bool{false, true} {
				b := life.Build{Started: now, Connected: true, Offered: true, Lacking: lacking, Result: ends[test.said], Arrived: now}
				want := life.Step{End: &ends[test.want]}
				if test.wish {
					b.Wish = &ends[cancelled]
				}
				switch {
				case lacking && test.wish:
					want = life.Step{Decide: &ends[test.want]}
				case lacking:
					want = life.Step{Wait: policy.CollectTimeout}
				}
				if diff := cmp.Diff(want, b.Next(policy, now)); diff != "" {
					t.Errorf("lacking %v (-want +got):\n%s", lacking, diff)
				}
			}
		})
	}
}

// TestArrived: each octet gives the worker the whole time again.
func TestArrived(t *testing.T) {
	half := policy.CollectTimeout / 2
	b := life.Build{Started: now, Connected: true, Offered: true, Lacking: true, Result: said, Arrived: now}
	for range 3 {
		if diff := cmp.Diff(life.Step{Wait: half}, b.Next(policy, b.Arrived.Add(half))); diff != "" {
			t.Errorf("after half of the time (-want +got):\n%s", diff)
		}
		b.Arrived = b.Arrived.Add(half)
	}
}

// TestEndless: limits that are as long as can be do not wrap.
func TestEndless(t *testing.T) {
	endless := policy
	endless.Limits.Timeout, endless.Limits.Grace = math.MaxInt64, math.MaxInt64
	b := life.Build{Started: now, Connected: true}
	for name, wish := range map[string]*job.Result{"running": nil, "stopping": &ends[cancelled]} {
		t.Run(name, func(t *testing.T) {
			b.Wish, b.Told = wish, now
			if diff := cmp.Diff(life.Step{Wait: math.MaxInt64}, b.Next(endless, now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestEnded is what a worker hears of a build that has ended.
func TestEnded(t *testing.T) {
	tests := map[string]struct {
		said    end
		unheard bool
		want    life.Answer
	}{
		"it said so":           {cancelled, false, life.Forget},
		"it said another one":  {exited, false, life.SetAside},
		"it has said nothing":  {none, false, life.Stop},
		"it never had it":      {none, true, life.Nothing},
		"it had it and has it": {exited, true, life.SetAside},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := life.Ended(ends[cancelled], test.said.result(), test.unheard); got != test.want {
				t.Errorf("answer %d, expected %d", got, test.want)
			}
		})
	}
	other := ends[cancelled]
	other.Text += ": for another reason"
	if got := life.Ended(ends[cancelled], &other, false); got != life.SetAside {
		t.Errorf("another text: answer %d", got)
	}
}

// TestSkip is about lines that come twice.
func TestSkip(t *testing.T) {
	for _, test := range []struct {
		have, from, skip int64
		ok               bool
	}{{0, 0, 0, true}, {3, 3, 0, true}, {3, 1, 2, true}, {3, 4, 0, false}, {3, -1, 0, false}} {
		skip, ok := life.Skip(test.have, test.from)
		if ok != test.ok || ok && skip != test.skip {
			t.Errorf("%d are there, from %d: %d %v", test.have, test.from, skip, ok)
		}
	}
}
