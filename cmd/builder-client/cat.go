package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"builder/pkg/client"
	"builder/pkg/job"

	"github.com/spf13/cobra"
)

func cat(o *options) *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "cat JOB|UUID PATH",
		Short: "Write an artifact of a build to standard output",
		Long: `Cat writes one artifact of a job's latest build that succeeded, or of the build
with this uuid, of which a unique beginning is enough, to standard output. It is
verified by its hash while it is written: if that is another one, the exit status
is 1, and what was written is not to be used.`,
		Example: `  builder-client cat nightly bin/hello > hello
  builder-client cat 3f1c9a log/test.txt | less`,
		Args:              arguments("JOB or UUID", "PATH"),
		ValidArgsFunction: completeJob(o),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			build, err := describe(cmd, c, args[0], platform)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(build.Artifacts, func(a job.Artifact) bool { return a.Path == args[1] })
			if i < 0 {
				return fmt.Errorf("build %s has no artifact %s", build.UUID, quoted(args[1]))
			}
			p := newProgress(cmd.ErrOrStderr(), 0)
			p.file = nil // the terminal may be that of the octets
			out := &countingWriter{w: cmd.OutOrStdout()}
			err = c.Fetch(cmd.Context(), build.UUID, build.Artifacts[i:i+1], client.Receiver{
				Begin: func(job.Artifact) (client.Partial, error) { return stream{out}, nil },
				End:   func(a job.Artifact, _ client.Partial, err error) error { return naming(a.Path, unlessStopped(err)) },
				Lost:  p.lost,
			})
			if err != nil && out.n > 0 {
				err = fmt.Errorf("what was written is not whole, or not right: %w", err)
			}
			return err
		}),
	}
	addPlatform(cmd, o, &platform)
	return cmd
}

func unlessStopped(err error) error {
	if errors.Is(err, client.ErrStopped) {
		return nil
	}
	return err
}

// stream is an artifact that is written on and on.
type stream struct{ io.Writer }

// Read implements client.Partial.
func (stream) Read([]byte) (int, error) { return 0, io.EOF }

// Restart implements client.Partial.
func (stream) Restart() error { return errors.New("what was written can not be taken back") }
