package main

import (
	"fmt"
	"strings"

	"builder/pkg/job"
	"builder/pkg/program"

	"github.com/spf13/cobra"
)

// keepFlags are those that say which builds of a job are kept.
type keepFlags struct {
	builds, days int64
	bytes        string
}

func (k *keepFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&k.builds, "keep-builds", 0, "keep this `number` of its last builds on each platform; 0 for all (default: the server's, all)")
	f.Int64Var(&k.days, "keep-days", 0, "keep its builds for this `number` of days; 0 for ever (default: the server's, for ever)")
	f.StringVar(&k.bytes, "keep-bytes", "", "keep its last builds up to this `size`, such as 10GiB; 0 for all (default: the server's, all)")
	for _, name := range []string{"keep-builds", "keep-days", "keep-bytes"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
}

// set gives a job what the flags say; those that are not given stay open.
func (k *keepFlags) set(cmd *cobra.Command, j *job.Job) error {
	changed := cmd.Flags().Changed
	for name, bound := range map[string]struct {
		n  int64
		to *int64
	}{"keep-builds": {k.builds, &j.Retention.Builds}, "keep-days": {k.days, &j.Retention.Days}} {
		switch {
		case !changed(name):
		case bound.n < 0:
			return usagef("--%s %d: the number must not be negative", name, bound.n)
		case bound.n == 0:
			*bound.to = job.Unbounded
		default:
			*bound.to = bound.n
		}
	}
	if changed("keep-bytes") {
		j.Retention.Bytes = job.Unbounded
		if k.bytes != "0" {
			var err error
			if j.Retention.Bytes, err = job.ParseSize(k.bytes); err != nil {
				return usagef("--keep-bytes: %w", err)
			}
		}
	}
	if err := j.Retention.Check(); err != nil {
		return program.Usage(err)
	}
	return nil
}

// keptOf tells what a job says of its builds, and nothing if it leaves that to the
// server.
func keptOf(r job.Retention) string {
	var parts []string
	for _, bound := range []struct {
		n    int64
		what string
		all  string
	}{
		{r.Builds, count(int(r.Builds), "build"), "any number of builds"},
		{r.Days, count(int(r.Days), "day"), "any number of days"},
		{r.Bytes, job.FormatSize(r.Bytes), "any size"},
	} {
		switch {
		case bound.n > 0:
			parts = append(parts, bound.what)
		case bound.n < 0:
			parts = append(parts, bound.all)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("keep %s", strings.Join(parts, ", "))
}
