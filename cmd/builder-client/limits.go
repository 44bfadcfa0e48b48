package main

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"builder/pkg/job"
	"builder/pkg/program"

	"github.com/spf13/cobra"
)

// limitFlags are those that bound a job's builds and say how often it is tried.
type limitFlags struct {
	timeout, silence, grace  time.Duration
	maxConsole, maxArtifacts string
	retries                  int
	retryOn                  []string
	resources                program.ResourceFlags
}

func (l *limitFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(program.Time(&l.timeout, 0, time.Millisecond), "timeout", "`time` after which the script is ended (default: the server's, 1h)")
	f.Var(program.Time(&l.silence, 0, time.Millisecond), "silence", "`time` without output after which the script is ended (default: the server's, none)")
	f.Var(program.Time(&l.grace, 0, time.Millisecond), "grace", "`time` that a script which is ended has to do so by itself (default: the server's, 30s)")
	f.StringVar(&l.maxConsole, "max-console", "", "`size` of the console that is kept, such as 100MiB (default: the server's, 1GiB)")
	f.StringVar(&l.maxArtifacts, "max-artifacts", "", "`size` that all artifacts may have, such as 2GiB (default: the server's, 50GiB)")
	f.IntVar(&l.retries, "retries", job.DefaultTries-1, "`number` of further tries when a build was lost")
	f.StringSliceVar(&l.retryOn, "retry-on", nil, "also try again after these `ends`: failure, timeout")
	l.resources.Add(f)
	for _, name := range []string{"cpus", "memory", "pids", "disk", "timeout", "silence", "grace", "max-console", "max-artifacts", "retries"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	must(cmd.RegisterFlagCompletionFunc("retry-on", cobra.FixedCompletions(
		[]string{"failure", "timeout", "failure,timeout"}, cobra.ShellCompDirectiveNoFileComp)))
}

// must is for what only a mistake in the program can break.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// set gives a job what the flags say; those that are not given stay open.
func (l *limitFlags) set(cmd *cobra.Command, j *job.Job) error {
	changed := cmd.Flags().Changed
	j.Limits = job.Limits{Timeout: l.timeout, Silence: l.silence, Grace: l.grace}
	for name, size := range map[string]struct {
		text string
		to   *int64
	}{"max-console": {l.maxConsole, &j.Limits.MaxConsole}, "max-artifacts": {l.maxArtifacts, &j.Limits.MaxArtifacts}} {
		if !changed(name) {
			continue
		}
		var err error
		if *size.to, err = job.ParseSize(size.text); err != nil {
			return usagef("--%s: %w", name, err)
		}
	}
	if changed("retries") {
		if l.retries < 0 || l.retries >= job.MaxTries { // one try is the first
			return usagef("--retries %d: use 0 to %d", l.retries, job.MaxTries-1)
		}
		j.Retries.Tries = l.retries + 1
	}
	for _, end := range l.retryOn {
		switch end {
		case "failure":
			j.Retries.OnFailure = true
		case "timeout":
			j.Retries.OnTimeout = true
		default:
			return usagef("--retry-on %q: use failure or timeout", end)
		}
	}
	var err error
	j.Resources, err = l.resources.Resources()
	if err = cmp.Or(err, j.Limits.Check(), j.Retries.Check()); err != nil {
		return program.Usage(err)
	}
	return nil
}

// limitsOf tells how a job's limits, resources and retries differ from the defaults, and
// what it says of its builds; nothing if there is nothing.
func limitsOf(j job.Job) string {
	var parts []string
	set := j.Limits
	for _, t := range []struct {
		name   string
		is, by time.Duration
	}{
		{"timeout", set.Timeout, job.DefaultLimits.Timeout},
		{"silence", set.Silence, job.DefaultLimits.Silence},
		{"grace", set.Grace, job.DefaultLimits.Grace},
	} {
		if t.is != 0 && t.is != t.by {
			parts = append(parts, t.name+" "+period(t.is))
		}
	}
	for _, s := range []struct {
		name   string
		is, by int64
	}{
		{"console", set.MaxConsole, job.DefaultLimits.MaxConsole},
		{"artifacts", set.MaxArtifacts, job.DefaultLimits.MaxArtifacts},
	} {
		if s.is != 0 && s.is != s.by {
			parts = append(parts, s.name+" "+job.FormatSize(s.is))
		}
	}
	if used := j.Resources.String(); used != "" {
		parts = append(parts, used)
	}
	ends := retryOn(j.Retries)
	if j.Retries.Max() != job.DefaultTries || len(ends) > 0 {
		retries := "retries " + strconv.Itoa(j.Retries.Max()-1)
		if len(ends) > 0 {
			retries += " on " + strings.Join(ends, " and ")
		}
		parts = append(parts, retries)
	}
	if kept := keptOf(j.Retention); kept != "" {
		parts = append(parts, kept)
	}
	return strings.Join(parts, ", ")
}

// retryOn are the ends that a job is tried again after, beside those that are
// always.
func retryOn(r job.Retries) []string {
	ends := []string{}
	if r.OnFailure {
		ends = append(ends, "failure")
	}
	if r.OnTimeout {
		ends = append(ends, "timeout")
	}
	return ends
}
