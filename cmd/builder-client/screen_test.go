package main_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	cli "builder/cmd/builder-client"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// Partial lines grow on a terminal and are not seen in a pipe, which gets the
// octets as they were printed.
func TestScreenPartialLines(t *testing.T) {
	const partial, unended = job.Partial, job.Unended
	line := func(text string, flags job.LineFlags) job.Line { return job.Line{Data: []byte(text), Flags: flags} }
	tests := map[string]struct {
		lines          []job.Line
		terminal, pipe string
	}{
		"whole lines": {
			[]job.Line{line("one", 0), line("", 0), line("two", 0)},
			"one\n\ntwo\n", "one\n\ntwo\n",
		},
		"grows": {
			[]job.Line{line("a", partial), line("ab", partial), line("ab", partial), line("abc", 0), line("d", 0)},
			"abc\nd\n", "abc\nd\n",
		},
		"is whole as it was shown": {
			[]job.Line{line("a", partial), line("a", 0), line("b", 0)},
			"a\nb\n", "a\nb\n",
		},
		"is another one": {
			[]job.Line{line("50%", partial), line("done", 0)},
			"50%\ndone\n", "done\n",
		},
		"longer than a line may be": {
			[]job.Line{line("aaa", unended), line("aab", partial), line("aabb", 0)},
			"aaaaabb\n", "aaaaabb\n",
		},
		"without a newline at the end": {
			[]job.Line{line("a", 0), line("b", partial), line("b", unended)},
			"a\nb\n", "a\nb",
		},
		"never ends": {
			[]job.Line{line("a", 0), line("b", partial)},
			"a\nb\n", "a\n",
		},
		"any octets": {
			[]job.Line{line("\x1b[1m\xff\x00", 0)},
			"\x1b[1m\xff\x00\n", "\x1b[1m\xff\x00\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, terminal := range []bool{true, false} {
				var out, notes bytes.Buffer
				s, want := cli.NewScreen(&out, &notes), test.pipe
				if terminal {
					s, want = cli.OnTerminal(s), test.terminal
				}
				show(t, s, test.lines)
				if diff := cmp.Diff(want, out.String()); diff != "" {
					t.Errorf("terminal %v: %s", terminal, diff)
				}
				if notes.Len() == 0 {
					t.Errorf("terminal %v: nothing was said of the result", terminal)
				}
			}
		})
	}
}

// show gives a screen the lines of a build, with a pause behind each.
func show(t *testing.T, s *cli.Watched, lines []job.Line) {
	t.Helper()
	v := cli.ViewerOf(s)
	if err := v.Begin(wire.BuildStatus{UUID: uuid.UUID{1}}); err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if err := v.Line(line); err != nil {
			t.Fatal(err)
		}
		if err := v.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.End(job.Build{}, false); err != nil {
		t.Fatal(err)
	}
}

// A lost connection is told once, until there is something to show again.
func TestScreenLost(t *testing.T) {
	var all bytes.Buffer
	s := cli.OnTerminal(cli.NewScreen(&all, &all))
	v := cli.ViewerOf(s)
	lost := func() error { return v.Lost(errors.New("no \x1b route"), time.Second) }
	line := func(text string, flags job.LineFlags) func() error {
		return func() error { return v.Line(job.Line{Data: []byte(text), Flags: flags}) }
	}
	for i, step := range []func() error{
		lost, lost, func() error { return v.Begin(wire.BuildStatus{UUID: uuid.UUID{1}}) },
		line("one", 0), line("tw", job.Partial), lost, lost, line("tw", job.Partial), line("two", 0),
		func() error { return v.End(job.Build{}, false) },
	} {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	want := `connection lost, trying again: no \x1b route
build 01000000-0000-0000-0000-000000000000
one
tw
connection lost, trying again: no \x1b route
two
result: exited 0
`
	if diff := cmp.Diff(want, all.String()); diff != "" {
		t.Error(diff)
	}
}

// What is said about builds is in the order of what happens, and harmless.
func TestScreenNotes(t *testing.T) {
	var all bytes.Buffer
	s := cli.NewScreen(&all, &all)
	v := cli.ViewerOf(s)
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.UTC
	started := time.Date(2026, 3, 29, 1, 2, 3, 0, time.UTC)
	steps := []error{
		v.Begin(wire.BuildStatus{UUID: uuid.UUID{1}, Job: "a b", Platform: "p", Worker: "w\x1b", Try: 1, Started: started}),
		v.Line(job.Line{Data: []byte("first try")}),
		v.End(job.Build{
			Started: started, Finished: started.Add(time.Minute),
			Result: job.Failure(job.WorkerLost, "worker lost\x1b[2J"), Notes: []string{"link \"a\nb\" was not kept"},
		}, true),
		v.Begin(wire.BuildStatus{UUID: uuid.UUID{2}, Try: 2}),
		v.Line(job.Line{Data: []byte("second try")}),
		v.End(job.Build{Artifacts: make([]job.Artifact, 2), Place: job.Place{
			Kind: "container", Origin: "debian@sha256:0123", Phases: []job.Phase{{Name: "prepare", Took: 90 * time.Millisecond}, {Name: "run\r", Took: 2 * time.Second}},
		}}, false),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	want := `build 01000000-0000-0000-0000-000000000000 of job "a b" on p, worker "w\x1b", started 2026-03-29 01:02:03
first try
result: worker lost\x1b[2J after 1 min 0 s
note: link "a\nb" was not kept
it is tried again
build 02000000-0000-0000-0000-000000000000, try 2
second try
result: exited 0, 2 artifacts
place: container of debian@sha256:0123, prepare 90 ms, run\r 2.0 s
`
	if diff := cmp.Diff(want, all.String()); diff != "" {
		t.Error(diff)
	}
}
