package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"builder/pkg/client"
	"builder/pkg/program"

	"github.com/spf13/cobra"
)

func hashOf(o *options) *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hash SHA256|FILE",
		Short: "Find the builds that produced a file",
		Long: `Hash lists the builds that have an artifact with this SHA-256 (64 hexadecimal
digits), or with the content of this file, the newest first; - is standard input. A
file whose name has 64 such digits is written ./NAME. When there is none the exit
status is 1.`,
		Example: `  builder-client hash /usr/local/bin/hello
  builder-client hash b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733 --json`,
		Args: arguments("SHA256 or FILE"),
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if limit <= 0 {
				return usagef("--limit %d: the number must be positive", limit)
			}
			sum, err := hashNamed(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			list, err := c.Find(cmd.Context(), sum, limit)
			if err != nil {
				return err
			}
			if asJSON {
				if err := writeJSON(cmd.OutOrStdout(), each(list, foundJSON)); err != nil {
					return err
				}
			} else if len(list) > 0 {
				t := &table{w: tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)}
				t.section("Builds", "none", "BUILD", "JOB", "PLATFORM", "STARTED", "RESULT", "PATH")
				for _, b := range list {
					for _, a := range b.Artifacts {
						t.row(b.UUID.String(), quoted(b.Job), quoted(b.Platform), clock(b.Started), harmless(b.Result.String()), quoted(a.Path))
					}
				}
				if err := t.close(); err != nil {
					return err
				}
			}
			if len(list) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "no build has produced a file with the SHA-256 %x\n", sum)
				return program.ErrSilent
			}
			return nil
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of builds at the most; the server gives no more than 1000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

// hashNamed is a hash as typed, or that of a file.
func hashNamed(stdin io.Reader, what string) (sum [sha256.Size]byte, err error) {
	if digits, err := hex.DecodeString(what); err == nil && len(digits) == len(sum) {
		return [sha256.Size]byte(digits), nil
	}
	in := stdin
	if what != "-" {
		file, err := os.Open(what)
		if err != nil {
			return sum, program.Usage(fmt.Errorf("%w, and it is no SHA-256, which has %d hexadecimal digits", err, 2*len(sum)))
		}
		defer file.Close()
		in = file
	}
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return sum, fmt.Errorf("reading %s: %w", quoted(what), err)
	}
	h.Sum(sum[:0])
	return sum, nil
}
