package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/program"

	"github.com/spf13/cobra"
)

// errorStatus is the exit status of compare after an error: 1 says that the
// artifacts differ.
const errorStatus = 2

func compare(o *options) *cobra.Command {
	var platform string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compare JOB|UUID JOB|UUID",
		Short: "Tell how two builds differ",
		Long: `Compare shows which artifacts of two builds differ, whether they had the same
script and platform, how long they took, and how their inputs differ, if they left
them as builder-web knows them: opam-switch (the installed packages),
build-environment and system-packages. A job stands for its latest build that
succeeded.

The exit status is 0 when the artifacts are equal, 1 when they are not, 2 after an
error.`,
		Example: `  builder-client compare 3f1c9a nightly
  builder-client compare 3f1c9a 77b0 --json | jq '.artifacts[].path'`,
		Args:              arguments("JOB or UUID", "another JOB or UUID"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			equal, err := comparing(cmd, c, args, platform, asJSON)
			switch {
			case err != nil:
				return program.Status(err, errorStatus)
			case !equal:
				return program.ErrSilent
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	addPlatform(cmd, o, &platform)
	return cmd
}

func comparing(cmd *cobra.Command, c *client.Client, args []string, platform string, asJSON bool) (equal bool, err error) {
	var builds [2]job.Build
	for i, what := range args {
		if builds[i], err = describe(cmd, c, what, platform); err != nil {
			return false, err
		}
	}
	r, err := compareBuilds(cmd.Context(), c, builds[0], builds[1])
	if err != nil {
		return false, err
	}
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), comparisonJSON(r))
	} else {
		err = writeComparison(cmd.OutOrStdout(), r)
	}
	return len(r.artifacts) == 0, err
}

// comparison is how two builds differ.
type comparison struct {
	a, b      job.Build
	artifacts []difference[job.Content]
	alike     int // artifacts
	inputs    []inputComparison
}

// inputComparison is how they differ in one of the artifacts that tell of their
// inputs.
type inputComparison struct {
	path     string
	compared bool // both have it
	equal    bool
	lines    []difference[string]
}

func compareBuilds(ctx context.Context, c *client.Client, a, b job.Build) (comparison, error) {
	r := comparison{a: a, b: b}
	left, right := contents(a), contents(b)
	r.artifacts, r.alike = differences(left, right)
	for _, input := range inputs {
		x, inA := left[input.path]
		y, inB := right[input.path]
		one := inputComparison{path: input.path, compared: inA && inB, equal: x == y}
		if one.compared && !one.equal {
			before, err := readArtifact(ctx, c, a, input.path, x)
			if err != nil {
				return r, err
			}
			after, err := readArtifact(ctx, c, b, input.path, y)
			if err != nil {
				return r, err
			}
			one.lines, _ = differences(input.parse(before), input.parse(after))
		}
		r.inputs = append(r.inputs, one)
	}
	return r, nil
}

// maxInput is the longest artifact that is compared by what is in it.
const maxInput = 16 << 20

func readArtifact(ctx context.Context, c *client.Client, b job.Build, path string, content job.Content) (string, error) {
	if content.Size > maxInput {
		return "", fmt.Errorf("%s of build %s has %d octets: more than %d are not compared", path, b.UUID, content.Size, maxInput)
	}
	var text bytes.Buffer
	err := c.Fetch(ctx, b.UUID, []job.Artifact{{Path: path, Content: content}}, client.Receiver{
		Begin: func(job.Artifact) (client.Partial, error) { return stream{&text}, nil },
		End: func(_ job.Artifact, _ client.Partial, err error) error {
			if err = unlessStopped(err); err != nil {
				return fmt.Errorf("build %s: %w", b.UUID, naming(path, err))
			}
			return nil
		},
	})
	return text.String(), err
}

func writeComparison(out io.Writer, r comparison) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.section("Builds", "", "", "BUILD", "JOB", "PLATFORM", "STARTED", "TOOK", "RESULT")
	for i, b := range []job.Build{r.a, r.b} {
		t.row(string(rune('A'+i)), b.UUID.String(), quoted(b.Job), quoted(b.Platform), clock(b.Started), span(took(b)), harmless(b.Result.String()))
	}
	t.section(fmt.Sprintf("Artifacts: %d equal", r.alike), "no others", "CHANGE", "PATH", "A", "B")
	for _, d := range r.artifacts {
		t.row(string(d.change), quoted(d.name), valueOf(fmt.Sprint(d.a.Size), d.change == added), valueOf(fmt.Sprint(d.b.Size), d.change == removed))
	}
	t.section("Other things", "", "WHAT", "COMPARED")
	t.row("script", alike(r.a.Script == r.b.Script))
	t.row("platform", alike(r.a.Platform == r.b.Platform))
	t.row("duration", longer(took(r.a), took(r.b)))
	for _, input := range r.inputs {
		t.row(input.path, input.summary())
	}
	for _, input := range r.inputs {
		if len(input.lines) == 0 {
			continue
		}
		t.section(input.path, "", "CHANGE", "NAME", "A", "B")
		for _, d := range input.lines {
			t.row(string(d.change), quoted(d.name), valueOf(d.a, d.change == added), valueOf(d.b, d.change == removed))
		}
	}
	return t.close()
}

func alike(yes bool) string {
	if yes {
		return "the same"
	}
	return "different"
}

// summary is the comparison in a few words.
func (i inputComparison) summary() string {
	switch {
	case !i.compared:
		return "not compared: not both have it"
	case i.equal:
		return "the same"
	case len(i.lines) == 0:
		return "different, but not in what is compared of it"
	}
	return "different"
}

func valueOf(value string, lacking bool) string {
	switch {
	case lacking:
		return "-"
	case value == "":
		return ""
	}
	return quoted(value)
}

// took is how long a build ran.
func took(b job.Build) time.Duration { return b.Finished.Sub(b.Started) }

// longer says how much longer or shorter the second is.
func longer(a, b time.Duration) string {
	switch {
	case b > a:
		return span(b-a) + " longer"
	case b < a:
		return span(a-b) + " shorter"
	}
	return "the same"
}
