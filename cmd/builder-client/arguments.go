package main

import (
	"fmt"
	"slices"
	"strings"

	"builder/pkg/program"

	"github.com/spf13/cobra"
)

// arguments wants exactly these, none of them empty; the last may be optional: "[JOB]".
func arguments(names ...string) cobra.PositionalArgs {
	least := len(names)
	if least > 0 && strings.HasPrefix(names[least-1], "[") {
		least--
	}
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("missing: %s", strings.Join(names[len(args):least], ", "))
		case len(args) > len(names):
			return usagef("unexpected argument %q", args[len(names)])
		}
		if i := slices.Index(args, ""); i >= 0 {
			return usagef("%s is empty", strings.Trim(names[i], "[]"))
		}
		return nil
	}
}

// usagef is an error of the command line.
func usagef(format string, args ...any) error {
	return program.Usage(fmt.Errorf(format, args...))
}
