package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/job"
	"builder/pkg/program"
	"builder/pkg/sandbox"
	"builder/pkg/worker"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// kind is a kind of isolation, as the command line knows it. Each has a file of its
// own here.
type kind interface {
	// name is what --isolation takes; about says what it is, in a few words.
	name() string
	about() string
	// addFlags adds the settings of this kind; each begins its help with the name.
	addFlags(f *pflag.FlagSet)
	// check finds out whether the kind works on this machine, with the settings given.
	check(ctx context.Context, s site) []sandbox.Finding
	// open makes the sandbox. The caller closes it.
	open(ctx context.Context, s site) (closingSandbox, error)
}

// site is where a sandbox does its work.
type site struct {
	dir      *worker.Directory // nil for check
	platform string            // "" for check and sweep
	slots    int
	warm     int // places to prepare ahead
	log      zerolog.Logger
	trial    bool // nothing is going to be run in it
}

type closingSandbox interface {
	sandbox.Sandbox
	io.Closer
}

// kinds are all of them, in the order in which they are told.
func kinds() []kind { return append(append([]kind{&none{}, &user{}}, systemKinds()...), &jails{}) }

// commander is a kind that has commands of its own.
type commander interface{ commands() []*cobra.Command }

// kindCommands are those of all kinds.
func kindCommands(kinds []kind) []*cobra.Command {
	var commands []*cobra.Command
	for _, k := range kinds {
		if c, ok := k.(commander); ok {
			commands = append(commands, c.commands()...)
		}
	}
	return commands
}

func find(kinds []kind, name string) (kind, error) {
	var names []string
	for _, k := range kinds {
		if k.name() == name {
			return k, nil
		}
		names = append(names, k.name())
	}
	return nil, fmt.Errorf("isolation %q is unknown: use %s", name, strings.Join(names, ", "))
}

// addKinds adds --isolation and the settings of each kind.
func addKinds(f *pflag.FlagSet, kinds []kind, chosen *string) {
	var about []string
	for _, k := range kinds {
		about = append(about, k.name()+" ("+k.about()+")")
		k.addFlags(f)
	}
	f.StringVar(chosen, "isolation", kinds[0].name(), "`kind` of place for a build: "+strings.Join(about, ", "))
}

// misplaced refuses settings of another kind than the chosen one: who says --run-as
// does not expect builds to run as the worker.
func misplaced(given *pflag.FlagSet, chosen string) (err error) {
	for _, k := range kinds() {
		if k.name() == chosen {
			continue
		}
		own := pflag.NewFlagSet("", pflag.ContinueOnError)
		k.addFlags(own)
		own.VisitAll(func(f *pflag.Flag) {
			if given.Changed(f.Name) && err == nil {
				err = program.Usage(fmt.Errorf("--%s is a setting of --isolation %s, not of %s", f.Name, k.name(), chosen))
			}
		})
	}
	return err
}

// checkCommand tells whether a kind works here.
func checkCommand(o *options, kinds []kind) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Tell whether a kind of isolation works on this machine",
		Long: `Check tells whether the chosen kind of isolation works on this machine, with the
settings and limits given, and if not, what is missing and what to do about it. A
worker looks at the same when it starts, and takes no builds if something is missing.`,
		Example: `  builder-worker check --isolation none`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := find(kinds, o.isolation)
			if err != nil {
				return program.Usage(err)
			}
			if err := o.checkSettings(); err != nil {
				return program.Usage(err)
			}
			resources, err := o.resources.Resources()
			if err != nil {
				return program.Usage(err)
			}
			here := site{slots: o.slots, log: zerolog.Nop(), trial: true}
			findings := chosen.check(cmd.Context(), here)
			if resources != (job.Resources{}) && !slices.ContainsFunc(findings, lacking) {
				findings = append(findings, sandbox.Finding{
					What: "limits " + resources.String(), Err: enforces(cmd.Context(), chosen, here, o.dir, resources),
					Help: "leave it out, or choose another kind of isolation",
				})
			}
			return report(cmd.OutOrStdout(), chosen, findings)
		},
	}
}

func lacking(f sandbox.Finding) bool { return f.Err != nil }

// report prints what was found.
func report(out io.Writer, k kind, findings []sandbox.Finding) error {
	for _, f := range findings {
		if f.Err == nil {
			fmt.Fprintf(out, "ok       %s\n", f.What)
			continue
		}
		fmt.Fprintf(out, "missing  %s: %v\n", f.What, f.Err)
		if f.Help != "" {
			fmt.Fprintf(out, "         %s\n", f.Help)
		}
	}
	if slices.ContainsFunc(findings, lacking) {
		return fmt.Errorf("isolation %s does not work here", k.name())
	}
	_, err := fmt.Fprintf(out, "isolation %s works here\n", k.name())
	return err
}

// enforces makes a sandbox, in dir if that is there, to ask it which bounds it keeps.
func enforces(ctx context.Context, k kind, s site, dir string, res job.Resources) (err error) {
	if _, missing := os.Stat(dir); missing != nil {
		dir = ""
	}
	if dir, err = os.MkdirTemp(dir, "builder-check-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Remove(dir)) }()
	if s.dir, err = worker.OpenDirectory(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.dir.Close()) }()
	box, err := k.open(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(box.Enforces(res), box.Close())
}

// works is the check that a worker makes when it starts.
func works(ctx context.Context, k kind, s site) error {
	var failures []error
	for _, f := range k.check(ctx, s) {
		switch {
		case f.Err == nil:
		case f.Help == "":
			failures = append(failures, fmt.Errorf("%s: %w", f.What, f.Err))
		default:
			failures = append(failures, fmt.Errorf("%s: %w; %s", f.What, f.Err, f.Help))
		}
	}
	if len(failures) > 0 {
		return fmt.Errorf("isolation %s does not work here: %w", k.name(), errors.Join(failures...))
	}
	return nil
}

// sweepCommand removes what a killed worker has left behind.
func sweepCommand(o *options, kinds []kind) *cobra.Command {
	var sweepAll bool
	cmd := &cobra.Command{
		Use:   "sweep --dir DIR [--all]",
		Short: "Remove what a killed worker has left behind",
		Long: `Sweep removes everything that the worker of a directory has made for builds and
left behind when it was killed: processes, directories, and what its kind of
isolation makes besides. What an undelivered build needs stays: start the worker to
deliver it. A worker does the same when it starts. With --all the places go that
--keep-failed has kept, too.`,
		Example: `  builder-worker sweep --dir /var/lib/builder-worker
  builder-worker sweep --dir /var/lib/builder-worker --all`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			chosen, err := find(kinds, o.isolation)
			if err != nil {
				return program.Usage(err)
			}
			if o.dir == "" {
				return program.Usage(errors.New("--dir says which worker's"))
			}
			log, err := program.Logger(os.Stderr, o.logLevel)
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(o.dir, "id")); err != nil {
				return fmt.Errorf("--dir %s is no worker's directory: %w", o.dir, err) // and would become one
			}
			dir, err := worker.OpenDirectory(o.dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, dir.Close()) }()
			if err := dir.Claim(chosen.name()); err != nil {
				return err
			}
			box, err := chosen.open(cmd.Context(), site{dir: dir, slots: 1, log: log})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, box.Close()) }()
			return worker.Sweep(dir, box, sweepAll, log)
		},
	}
	cmd.Flags().BoolVar(&sweepAll, "all", false, "also remove the places of failed builds that are kept")
	return cmd
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return program.Usage(fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}
