package main

import (
	"context"
	"slices"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

func completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands and names in a shell",
		Example: `  builder-client completion bash > /etc/bash_completion.d/builder-client
  builder-client completion zsh > "${fpath[1]}/_builder-client"
  builder-client completion fish > ~/.config/fish/completions/builder-client.fish`,
		Args:      arguments("bash, zsh or fish"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return usagef("shell %q is unknown: use bash, zsh or fish", args[0])
		},
	}
}

// completer offers what may stand where a shell asks.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completionTime is how long somebody who pressed Tab waits for the server.
const completionTime = 2 * time.Second

// completeJob offers the server's jobs as first argument.
func completeJob(o *options) completer {
	return o.complete(func(s wire.StatusReply) []string {
		return each(s.Jobs, func(j wire.JobStatus) string { return j.Job.Name })
	})
}

// completePlatform offers the server's platforms as first argument.
func completePlatform(o *options) completer {
	return o.complete(func(s wire.StatusReply) []string {
		return each(s.Platforms, func(p wire.PlatformStatus) string { return p.Name })
	})
}

// completeSchedule offers jobs, then platforms, then files.
func completeSchedule(o *options) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return completeJob(o)(cmd, args, typed)
		case 1:
			return completePlatform(o)(cmd, nil, typed)
		case 2:
			return nil, cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// complete offers names that the server knows; none when it can not be asked.
// Shells expand what they are given: odd names are left out.
func (o *options) complete(names func(wire.StatusReply) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const nothingElse = cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 || o.check() != nil {
			return nil, nothingElse
		}
		ctx, stop := context.WithTimeout(cmd.Context(), completionTime)
		defer stop()
		c := client.New(o.remote, client.Options{Protocol: o.protocol})
		defer c.Close() //nolint:errcheck // a shell is not told
		status, err := c.Status(ctx)
		if err != nil {
			return nil, nothingElse
		}
		odd := func(name string) bool { return job.CheckName("", name) != nil }
		return slices.DeleteFunc(names(status), odd), nothingElse
	}
}
