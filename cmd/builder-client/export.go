package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"builder/pkg/client"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func export(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "export UUID",
		Short: "Fetch a build's result file",
		Long: `Export fetches a build as the result file of robur's builder, which inspect
reads: job, console, result and artifacts. The beginning of the uuid is enough.
With --output the file is there as a whole or not at all.`,
		Example: `  builder-client export 3f1c9a -o nightly.result
  builder-client export 3f1c9a | builder-client inspect - --console`,
		Args: arguments("UUID"),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			switch {
			case cmd.Flags().Changed("output") && file == "":
				return usagef(`--output "": the name is empty`)
			case file != "":
				return exportFile(cmd.Context(), c, args[0], file)
			case isTerminal(cmd.OutOrStdout()):
				return usagef("a result file is nothing for a terminal: use --output FILE, or redirect standard output")
			}
			out := &countingWriter{w: cmd.OutOrStdout()}
			err := c.Export(cmd.Context(), args[0], out)
			if err != nil && out.n > 0 {
				err = fmt.Errorf("what was written is incomplete: %w", err)
			}
			return err
		}),
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to this `file`")
	return cmd
}

// exportFile writes beside file and renames.
func exportFile(ctx context.Context, c *client.Client, what, file string) (err error) {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return usagef("%s is not a regular file: redirect standard output to it", quoted(file))
	}
	out, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, out.Cleanup()) }()
	if err := c.Export(ctx, what, out); err != nil {
		return err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
