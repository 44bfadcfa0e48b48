package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"builder/pkg/client"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// outbox is `outbox list` with the other commands below it.
func outbox(o *options) *cobra.Command {
	cmd := outboxList(o, "outbox")
	cmd.Long = `Outbox lists the builds that a remote (a web frontend that the server was started
with, or the executables of its upload-hooks) does not have yet: those that wait,
with the next try, and those that are parked, with the reason. Parked ones, which the
remote refused, are not sent before somebody says "retry"; they hold up no others.`
	cmd.Example = `  builder-client outbox
  builder-client outbox retry --all --to https://builds.example.org/upload
  builder-client outbox drop 3f1c9a`
	cmd.AddCommand(
		outboxList(o, "list"),
		outboxChange(o, wire.OutboxRetry, &cobra.Command{
			Use:   "retry UUID|--all",
			Short: "Send builds at once, also parked ones",
			Long: `Retry sends builds to the remotes that do not have them: a parked one behind those
that wait, one that waits for its next try at once.`,
			Example: `  builder-client outbox retry 3f1c9a
  builder-client outbox retry --all`,
		}, "sent again"),
		outboxChange(o, wire.OutboxDrop, &cobra.Command{
			Use:   "drop UUID|--all",
			Short: "Forget that remotes are to have builds",
			Long: `Drop takes builds out of the outbox: they are not sent any more. The builds
themselves stay as they are. One that is being sent may still arrive.`,
			Example: `  builder-client outbox drop 3f1c9a
  builder-client outbox drop --all --to https://old.example.org/upload`,
		}, "dropped"),
	)
	return cmd
}

func outboxList(o *options, use string) *cobra.Command {
	var limit int
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   use,
		Short: "List the builds that are still to be uploaded, and those that can not be",
		Example: `  builder-client outbox list --to upload-hooks
  builder-client outbox list --json | jq -r '.posts[] | select(.parked != "").uuid'`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: o.run(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			if limit <= 0 {
				return usagef("--limit %d: the number must be positive", limit)
			}
			reply, err := c.Outbox(cmd.Context(), to, limit)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), outboxJSON(reply))
			}
			return writeOutbox(cmd.OutOrStdout(), reply, time.Now())
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of builds at the most; the server gives no more than 10000")
	outboxFlags(cmd, &to, &asJSON)
	return cmd
}

func outboxChange(o *options, action wire.OutboxAction, cmd *cobra.Command, done string) *cobra.Command {
	var all, asJSON bool
	var to string
	cmd.Args = arguments("[UUID]")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = o.run(func(cmd *cobra.Command, c *client.Client, args []string) error {
		what := ""
		switch {
		case len(args) == 0 && !all:
			return usagef("missing: UUID or --all")
		case len(args) > 0 && all:
			return usagef("give a UUID or --all, not both")
		case len(args) > 0:
			what = args[0]
		}
		reply, err := c.OutboxChange(cmd.Context(), wire.OutboxChange{Action: action, What: what, Remote: to})
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(cmd.OutOrStdout(), outboxJSON(reply))
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", done, count(int(reply.Changed), "upload"))
		return err
	})
	cmd.Flags().BoolVar(&all, "all", false, "all builds of the outbox")
	outboxFlags(cmd, &to, &asJSON)
	return cmd
}

func outboxFlags(cmd *cobra.Command, to *string, asJSON *bool) {
	cmd.Flags().StringVar(to, "to", "", "only what is for this `remote`: a name that \"outbox\" shows")
	cmd.Flags().BoolVar(asJSON, "json", false, "print everything as JSON")
}

// writeOutbox shows an outbox to people.
func writeOutbox(out io.Writer, reply wire.OutboxReply, now time.Time) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.writeRemotes(reply.Remotes, "")
	t.section("Builds", "all are where they should be", "BUILD", "JOB", "REMOTE", "TRIES", "STATE")
	for _, p := range reply.Posts {
		tries := fmt.Sprint(p.Tries)
		if p.Parked != "" {
			tries = "-" // nobody counts any more
		}
		t.row(p.UUID.String(), orDash(p.Job), orDash(p.Remote), tries, stateOf(p, reply.Remotes, now))
	}
	if err := t.close(); err != nil {
		return err
	}
	var total int64
	for _, r := range reply.Remotes {
		total += r.Waiting + r.Parked
	}
	if shown := int64(len(reply.Posts)); shown > 0 && shown < total {
		_, err := fmt.Fprintf(out, "  ... of %d in all (--limit, --to)\n", total)
		return err
	}
	return nil
}

// writeRemotes shows how much each remote does not have; hint says where there is more
// about what is parked.
func (t *table) writeRemotes(remotes []wire.RemoteStatus, hint string) {
	t.section("Outbox", "nothing is uploaded", "REMOTE", "WAITING", "PARKED")
	for _, r := range remotes {
		parked := fmt.Sprint(r.Parked)
		if r.Parked > 0 {
			parked += hint
		}
		name := orDash(r.Name)
		if !r.Configured {
			name += " (not configured)"
		}
		t.row(name, fmt.Sprint(r.Waiting), parked)
	}
}

// stateOf tells why a build is not there yet.
func stateOf(p wire.PostStatus, remotes []wire.RemoteStatus, now time.Time) string {
	last := ""
	if p.Error != "" {
		last = "; " + harmless(p.Error)
	}
	for _, r := range remotes {
		if r.Name == p.Remote && !r.Configured {
			last += "; its remote is not configured"
		}
	}
	switch {
	case p.Parked != "":
		return "parked: " + harmless(p.Parked) + last
	case p.Sending:
		return "is being sent" + last
	case !p.Next.IsZero():
		return "next try " + relative(p.Next.Sub(now)) + last
	}
	return "waits" + last
}

// What --json prints of an outbox.
type (
	remoteOut struct {
		Name       string `json:"name"`
		Configured bool   `json:"configured"`
		Waiting    int64  `json:"waiting"`
		Parked     int64  `json:"parked"`
	}
	outboxOut struct {
		Remotes []remoteOut `json:"remotes"`
		Posts   []postOut   `json:"posts"`
		Changed int64       `json:"changed"`
	}
	postOut struct {
		UUID    uuid.UUID  `json:"uuid"`
		Job     string     `json:"job"`
		Remote  string     `json:"remote"`
		Parked  string     `json:"parked"`
		Sending bool       `json:"sending"`
		Tries   int64      `json:"tries"`
		Next    *time.Time `json:"next"`
		Error   string     `json:"error"`
	}
)

func outboxJSON(reply wire.OutboxReply) outboxOut {
	return outboxOut{
		Remotes: each(reply.Remotes, remoteJSON), Changed: reply.Changed,
		Posts: each(reply.Posts, func(p wire.PostStatus) postOut {
			return postOut{p.UUID, p.Job, p.Remote, p.Parked, p.Sending, p.Tries, instant(p.Next), p.Error}
		}),
	}
}

func remoteJSON(r wire.RemoteStatus) remoteOut {
	return remoteOut{r.Name, r.Configured, r.Waiting, r.Parked}
}
