package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/program"

	"github.com/spf13/cobra"
)

func download(o *options) *cobra.Command {
	var dir, platform string
	var force bool
	cmd := &cobra.Command{
		Use:   "download JOB|UUID [PATH]...",
		Short: "Fetch the artifacts of a build into a directory",
		Long: `Download fetches artifacts of a job's latest build that succeeded, or of the build
with this uuid, of which a unique beginning is enough: all of them, or those that
the PATHs name. A PATH is that of an artifact, a directory with all that is below
it, or a pattern with *, ? and [...], which do not stand for a slash.

Each artifact is verified by its hash before it gets its name. What was interrupted
goes on where it was when the same is asked for again; until then it is beside its
goal as .NAME.HASH.part. A file that has the right content already is left as it
is; another one is replaced only with --force. Nothing is written outside of the
directory. What can not be written is told, and the exit status is 1 when the rest
is done.`,
		Example: `  builder-client download nightly
  builder-client download nightly bin/hello -o /tmp/nightly
  builder-client download 3f1c9a 'bin/*' share/doc --output . --force`,
		Args:              atLeastOne("JOB or UUID"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if dir == "" {
				return usagef(`--output "": the name is empty`)
			}
			patterns, err := parsePatterns(args[1:])
			if err != nil {
				return err
			}
			build, err := describe(cmd, c, args[0], platform)
			if err != nil {
				return err
			}
			wanted, err := chosen(build, patterns)
			if err != nil {
				return err
			}
			return downloadTo(cmd, c, build, wanted, dir, force)
		}),
	}
	cmd.Flags().StringVarP(&dir, "output", "o", ".", "write below this `directory`, which is made if need be")
	cmd.Flags().BoolVar(&force, "force", false, "replace files that have another content")
	addPlatform(cmd, o, &platform)
	return cmd
}

// atLeastOne wants that and takes more.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("missing: %s", name)
		}
		return nil
	}
}

// addPlatform adds the flag that says which of a job's builds is meant.
func addPlatform(cmd *cobra.Command, o *options, platform *string) {
	cmd.Flags().StringVar(platform, "platform", "", "of the job's builds take one of this `platform`")
	must(cmd.RegisterFlagCompletionFunc("platform", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return completePlatform(o)(cmd, nil, typed)
	}))
}

// describe finds a build, and says which if a job was named.
func describe(cmd *cobra.Command, c *client.Client, what, platform string) (job.Build, error) {
	switch {
	case what == "":
		return job.Build{}, usagef("JOB or UUID is empty")
	case platform == "" && cmd.Flags().Changed("platform"):
		return job.Build{}, usagef(`--platform "": the name is empty`)
	}
	build, err := c.Describe(cmd.Context(), what, platform)
	if err != nil {
		return job.Build{}, err
	}
	if build.Job == what {
		fmt.Fprintf(cmd.ErrOrStderr(), "build %s of job %s on %s, started %s\n", build.UUID, quoted(build.Job), quoted(build.Platform), clock(build.Started))
	}
	return build, nil
}

// parsePatterns checks PATHs as typed; a slash at the end is not meant.
func parsePatterns(typed []string) ([]string, error) {
	patterns := make([]string, len(typed))
	for i, p := range typed {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return nil, usagef("PATH %q is not understood", p)
		}
		if patterns[i] = strings.TrimRight(p, "/"); patterns[i] == "" {
			return nil, usagef("PATH %q is absolute: those of artifacts are not", p)
		}
	}
	return patterns, nil
}

// chosen are the artifacts that the patterns name, all if there are none. A
// pattern that names none is an error.
func chosen(build job.Build, patterns []string) ([]job.Artifact, error) {
	if len(build.Artifacts) == 0 {
		return nil, fmt.Errorf("build %s has no artifacts", build.UUID)
	}
	if len(patterns) == 0 {
		return build.Artifacts, nil
	}
	named := make([]bool, len(patterns))
	var wanted []job.Artifact
	for _, a := range build.Artifacts {
		taken := false
		for i, p := range patterns {
			matches, err := path.Match(p, a.Path)
			if a.Path == p || strings.HasPrefix(a.Path, p+"/") || matches && err == nil {
				named[i], taken = true, true
			}
		}
		if taken {
			wanted = append(wanted, a)
		}
	}
	if i := slices.Index(named, false); i >= 0 {
		return nil, fmt.Errorf("build %s has no artifact %s", build.UUID, quoted(patterns[i]))
	}
	return wanted, nil
}

// downloadTo fetches artifacts into a directory.
func downloadTo(cmd *cobra.Command, c *client.Client, build job.Build, wanted []job.Artifact, dir string, force bool) (err error) {
	s, err := openShelf(dir, force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.root.Close()) }()
	var lacking []job.Artifact
	total, refused := int64(0), 0
	out, notes := cmd.OutOrStdout(), cmd.ErrOrStderr()
	for _, a := range wanted {
		if cmd.Context().Err() != nil {
			return context.Cause(cmd.Context())
		}
		there, err := s.look(a)
		switch {
		case err != nil:
			refused++
			fmt.Fprintf(notes, "not written: %v\n", err)
		case there:
			fmt.Fprintf(notes, "is there already: %s\n", quoted(a.Path))
		default:
			lacking = append(lacking, a)
			total += a.Size
		}
	}
	// That may have taken longer than a server bears with one who asks nothing.
	if err := c.Close(); err != nil {
		return err
	}
	p := newProgress(notes, total)
	receiver := client.Receiver{
		Begin: func(a job.Artifact) (client.Partial, error) {
			p.begin(quoted(a.Path))
			return s.begin(a, p)
		},
		End: func(a job.Artifact, to client.Partial, err error) error {
			err = s.end(a, to, err)
			switch {
			case err == nil:
				return p.print(out, quoted(a.Path))
			case errors.Is(err, client.ErrStopped):
				return nil // who ends it says why
			}
			refused++
			p.leaveOut(a.Size)
			return p.print(notes, "not written: "+harmless(err.Error()))
		},
		Lost: p.lost,
	}
	err = c.Fetch(cmd.Context(), build.UUID, lacking, receiver)
	p.clear()
	switch {
	case err != nil && cmd.Context().Err() != nil:
		fmt.Fprintln(notes, "interrupted; the same command goes on where it was")
		return program.ErrSilent
	case err != nil:
		return err
	case refused > 0:
		fmt.Fprintf(notes, "%s not written\n", count(refused, "artifact"))
		return program.ErrSilent
	}
	return nil
}
