package main_test

import (
	"fmt"
	"strings"
	"testing"

	cli "builder/cmd/builder-client"

	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
)

func TestParseInputs(t *testing.T) {
	type facts = map[string]string
	for name, tt := range map[string]struct {
		parse func(string) map[string]string
		text  string
		want  facts
	}{
		"switch": {
			cli.ParseSwitch,
			"opam-version: \"2.0\"\nroots: [\"x.1\"]\ninstalled: [\n  \"base-threads.base\"\n  \"ocaml.4.14.0\" \"odd\"\n]\npackage \"x\" {\n  installed: [\"y.2\"]\n}\n",
			facts{"base-threads": "base", "ocaml": "4.14.0", "odd": ""},
		},
		"switch on one line":   {cli.ParseSwitch, `installed: ["a.1" "b.2~x"]`, facts{"a": "1", "b": "2~x"}},
		"nothing is installed": {cli.ParseSwitch, "installed: []\n", facts{}},
		"no switch":            {cli.ParseSwitch, "installed: [\"a.1\"", facts{}},
		"environment":          {cli.ParseEnvironment, "A=1\n\nB=x=y\nC\n", facts{"A": "1", "B": "x=y", "C": ""}},
		"Debian":               {cli.ParsePackages, "libc6=2.36-9+deb12u4\nlib-x=1\n", facts{"libc6": "2.36-9+deb12u4", "lib-x": "1"}},
		"FreeBSD":              {cli.ParsePackages, "gmake-4.3_2\ngit-lite-2.1\nplain", facts{"gmake": "4.3_2", "git": "lite-2.1", "plain": ""}},
		"empty":                {cli.ParsePackages, "", facts{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.parse(tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMarks: a letter for each main artifact, the oldest first; ! where the inputs
// were equal and it is not.
func TestMarks(t *testing.T) {
	output := func(main string, inputs byte) job.Output {
		o := job.Output{Inputs: [32]byte{inputs}}
		if main != "" {
			o.Path, o.Main = "bin/x", job.ContentOf([]byte(main))
		}
		return o
	}
	for name, tt := range map[string]struct {
		outputs []job.Output // newest first
		want    string
	}{
		"none":                 {nil, ""},
		"no main artifact":     {[]job.Output{output("", 0), output("", 1)}, " "},
		"all the same":         {[]job.Output{output("x", 1), output("x", 2), output("x", 0)}, "A A A"},
		"the oldest is A":      {[]job.Output{output("x", 1), output("y", 2), output("x", 3), output("z", 4)}, "B C B A"},
		"equal inputs":         {[]job.Output{output("x", 1), output("", 1), output("y", 1), output("z", 2), output("x", 2)}, "A!  C! B! A!"},
		"inputs are not known": {[]job.Output{output("x", 0), output("y", 0)}, "B A"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(cli.LettersOf(tt.outputs), " "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	var many []job.Output
	for i := range 26*27 + 1 {
		many = append([]job.Output{output(fmt.Sprint(i), 0)}, many...)
	}
	marks := cli.LettersOf(many)
	if got := []string{marks[0], marks[1], marks[len(marks)-27], marks[len(marks)-26]}; !cmp.Equal(got, []string{"AAA", "ZZ", "AA", "Z"}) {
		t.Errorf("many: %q", got)
	}
}

func TestChosen(t *testing.T) {
	build := job.Build{}
	for _, path := range []string{"a", "a.b/c", "a/b", "a/c/d", "[x]", "b"} {
		build.Artifacts = append(build.Artifacts, job.Artifact{Path: path})
	}
	for patterns, want := range map[string]string{
		"":      "a a.b/c a/b a/c/d [x] b",
		"a":     "a a/b a/c/d",
		"a/c":   "a/c/d",
		"a/*":   "a/b",
		"?":     "a b",
		"a*":    "a",
		"*/c":   "a.b/c",
		"[x]":   "[x]",
		"b a/b": "a/b b",
		"c":     "no artifact c",
		"b c":   "no artifact c",
		"a/c/":  "no artifact a/c/", // the slash is taken away before
	} {
		t.Run(patterns, func(t *testing.T) {
			chosen, err := cli.Chosen(build, strings.Fields(patterns))
			var got []string
			for _, a := range chosen {
				got = append(got, a.Path)
			}
			if text := strings.Join(got, " "); err == nil && text != want || err != nil && !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%q, %v, want %q", text, err, want)
			}
		})
	}
}

func TestOctets(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 1023 << 20: "1.0 GiB", 3 << 30: "3.0 GiB", 5 << 50: "5120.0 TiB",
	} {
		if got := cli.Octets(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
