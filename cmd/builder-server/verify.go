package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"builder/pkg/program"
	"builder/pkg/server"
	"builder/pkg/store"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// unverified is the exit status when not everything could be checked: 1 says that
// something is damaged.
const unverified = 2

// verify checks the data directory.
func verify(o *options) *cobra.Command {
	var repair, asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check everything in the data directory, and report damage by build",
		Long: `Verify reads the schedule, every record and console, every content and every
result of the reference, and reports what is not what was written, by build. It
changes nothing and may run beside the server, as a user who may read its files.

With --repair, damaged contents are moved to v1/damaged, so that each is taken
anew when a build offers it once more; nothing is removed. The server must not
run then. Records and consoles can not be had again: they stay where they are.

The exit status is 0 when nothing is damaged, 1 when something is, and 2 when
not everything could be checked.`,
		Example: `  builder-server verify --dir /var/lib/builder
  builder-server verify --json | jq -r '.damage[].build'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := newVerifyOutput(cmd.OutOrStdout(), asJSON)
			options := store.VerifyOptions{Repair: repair, Report: out.damage}
			stores, err := o.openStores()
			if err != nil {
				return program.Usage(err)
			}
			if stores != nil {
				defer stores.Close()
				options.Elsewhere = stores
			}
			verified, err := verifyShowing(cmd.Context(), o.dir, options)
			interrupted := errors.Is(err, context.Canceled)
			if interrupted {
				err = errors.New("interrupted: not everything was checked")
			}
			if err == nil || interrupted {
				err = errors.Join(err, out.end(verified, err == nil))
			}
			switch {
			case err != nil:
				return program.Status(err, unverified)
			case verified.Damaged > 0:
				return program.ErrSilent
			}
			return nil
		},
	}
	f := cmd.Flags()
	o.storeFlags(f)
	f.BoolVar(&repair, "repair", false, "move damaged contents to v1/damaged; the server must not run")
	f.BoolVar(&asJSON, "json", false, "print what was found as JSON")
	return cmd
}

// verifyShowing verifies, and shows on a terminal how far that has come.
func verifyShowing(ctx context.Context, dir string, o store.VerifyOptions) (store.Verified, error) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return server.Verify(ctx, dir, o)
	}
	o.Progress = &store.Progress{}
	line := &progressLine{out: os.Stderr, begun: time.Now(), progress: o.Progress}
	report := o.Report
	o.Report = func(d store.Damage) { line.above(func() { report(d) }) }
	ended, shown := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(shown)
		line.show(ended)
	}()
	verified, err := server.Verify(ctx, dir, o)
	close(ended)
	<-shown
	return verified, err
}

// verifyOutput prints what was found: lines as it is found, or JSON in the end.
type verifyOutput struct {
	out    io.Writer
	asJSON bool
	found  []damageOut
	err    error // of the first write that failed
}

func newVerifyOutput(out io.Writer, asJSON bool) *verifyOutput {
	return &verifyOutput{out: out, asJSON: asJSON, found: []damageOut{}}
}

// The types that --json prints; docs/manual/builder-server.md has their fields.
type (
	verifiedOut struct {
		Complete bool        `json:"complete"`
		Builds   int64       `json:"builds"`
		Contents int64       `json:"contents"`
		Octets   int64       `json:"octets"`
		Damaged  int64       `json:"damaged"`
		Damage   []damageOut `json:"damage"`
	}
	damageOut struct {
		What   store.Part `json:"what"`
		Job    *string    `json:"job"`
		Build  *uuid.UUID `json:"build"`
		Path   *string    `json:"path"`
		SHA256 *string    `json:"sha256"`
		File   string     `json:"file"`
		Offset *int64     `json:"offset"`
		Reason string     `json:"reason"`
		Moved  *string    `json:"moved"`
	}
)

func (o *verifyOutput) damage(d store.Damage) {
	if !o.asJSON {
		if _, err := fmt.Fprintln(o.out, d); o.err == nil {
			o.err = err
		}
		return
	}
	hash := ""
	if !d.Content.IsZero() {
		hash = d.Content.String()
	}
	o.found = append(o.found, damageOut{
		What: d.Part, Job: unless(d.Job, ""), Build: unless(d.UUID, uuid.UUID{}), Path: unless(d.Path, ""),
		SHA256: unless(hash, ""), File: d.File, Offset: unless(d.Offset, -1), Reason: d.Reason, Moved: unless(d.Aside, ""),
	})
}

// unless is nil for the value that stands for none.
func unless[T comparable](value, none T) *T {
	if value == none {
		return nil
	}
	return &value
}

// end prints the summary, and returns the first error of writing.
func (o *verifyOutput) end(v store.Verified, complete bool) error {
	if o.asJSON {
		encoder := json.NewEncoder(o.out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(verifiedOut{complete, v.Builds, v.Contents, v.Octets, v.Damaged, o.found})
	}
	if o.err != nil {
		return o.err
	}
	_, err := fmt.Fprintf(o.out, "%d builds, %d contents, %d octets checked, %d damaged\n", v.Builds, v.Contents, v.Octets, v.Damaged)
	return err
}
