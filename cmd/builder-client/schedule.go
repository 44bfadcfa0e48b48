package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

// scheduleFlags are the flags of schedule as typed.
type scheduleFlags struct {
	when           planFlags
	limits         limitFlags
	keep           keepFlags
	template       string
	vars           []string
	update, follow bool
}

func schedule(o *options) *cobra.Command {
	var f scheduleFlags
	cmd := &cobra.Command{
		Use:   "schedule NAME PLATFORM (SCRIPT | --template TEMPLATE)",
		Short: "Schedule a job: a script, or a template of the server with its variables",
		Long: `Schedule adds a job to the schedule. SCRIPT is a file, or - for standard input.
With a period or an interval the job is also queued at once, with a cron
expression it is not.`,
		Example: `  builder-client schedule hello debian-12 hello.sh
  builder-client schedule nightly debian-12 build.sh --cron "30 3 * * mon-fri" --tz Europe/Berlin
  builder-client schedule tool debian-12 --template go-build --every 90m \
      --var REPO=https://git.example.org/tool --var REF=HEAD --var PACKAGE=./cmd/tool
  builder-client schedule nightly debian-12 build.sh --update --timeout 2h --silence 20m --max-artifacts 2GiB \
      --retries 5 --retry-on timeout
  echo 'uname -a' | builder-client schedule uname freebsd-14 - --period never --follow`,
		Args:              arguments("NAME", "PLATFORM", "[SCRIPT]"),
		ValidArgsFunction: completeSchedule(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			s, err := f.submission(cmd, args)
			if err != nil {
				return err
			}
			return submit(cmd, c, s)
		}),
	}
	f.when.add(cmd)
	f.limits.add(cmd)
	f.keep.add(cmd)
	cmd.Flags().StringVar(&f.template, "template", "", "`name` of a template on the server, in place of SCRIPT")
	cmd.Flags().StringArrayVar(&f.vars, "var", nil, "a `variable` of the template: NAME=VALUE; repeatable")
	cmd.Flags().BoolVar(&f.update, "update", false, "replace definition, limits, bounds and plan of a job that exists; its history stays")
	cmd.Flags().BoolVar(&f.follow, "follow", false, "watch the run that is queued; the exit status tells how it ended")
	return cmd
}

func (f *scheduleFlags) submission(cmd *cobra.Command, args []string) (submission, error) {
	s := submission{job: job.Job{Name: args[0], Platform: args[1]}, update: f.update, follow: f.follow}
	if err := cmp.Or(f.limits.set(cmd, &s.job), f.keep.set(cmd, &s.job)); err != nil {
		return s, err
	}
	withTemplate := cmd.Flags().Changed("template")
	var err error
	if s.plan, err = f.when.plan(cmd); err != nil {
		return s, err
	}
	switch {
	case withTemplate && len(args) > 2:
		return s, usagef("use a script or a template, not both")
	case withTemplate && f.template == "":
		return s, usagef(`--template "": the name is empty`)
	case !withTemplate && len(args) < 3:
		return s, usagef("missing: SCRIPT, or --template")
	case !withTemplate && len(f.vars) > 0:
		return s, usagef("--var goes with --template only")
	case f.follow && s.plan.Cron != "":
		return s, usagef("--follow does not go with --cron, which queues nothing at once: use execute --follow")
	case withTemplate:
		s.job.Template = f.template
		s.job.Vars, err = parseVars(f.vars)
		s.job.SortVars()
	default:
		s.script, err = readScript(cmd.InOrStdin(), args[2])
	}
	return s, err
}

// parseVars reads NAME=VALUE.
func parseVars(texts []string) ([]job.Var, error) {
	var vars []job.Var
	seen := map[string]bool{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		switch {
		case !ok || name == "":
			return nil, usagef("--var %q: use NAME=VALUE", text)
		case seen[name]:
			return nil, usagef("--var %s is given twice", quoted(name))
		}
		seen[name] = true
		vars = append(vars, job.Var{Name: name, Value: value})
	}
	return vars, nil
}

// readScript reads a file, or standard input for "-".
func readScript(stdin io.Reader, name string) ([]byte, error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading script: %w", err)
		}
		defer file.Close()
		in = file
	}
	script, err := io.ReadAll(io.LimitReader(in, wire.MaxScript+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading script: %w", err)
	case len(script) > wire.MaxScript:
		return nil, fmt.Errorf("script %s is longer than %d octets", quoted(name), wire.MaxScript)
	case len(script) == 0:
		return nil, fmt.Errorf("script %s is empty", quoted(name))
	}
	return script, nil
}
