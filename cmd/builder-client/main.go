// Builder-client changes the schedule of a builder-server, watches its builds
// and fetches their results.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"builder/pkg/client"
	"builder/pkg/program"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

// interruptedStatus is the exit status after Ctrl-C, as a shell has it.
const interruptedStatus = 130

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program as if it knew nothing of signals.
	context.AfterFunc(ctx, stop)
	status := program.Main(ctx, command())
	if status != 0 && ctx.Err() != nil {
		status = interruptedStatus
	}
	os.Exit(status)
}

// options are the flags that all commands have.
type options struct {
	remote    string
	protocol  int
	keepAlive time.Duration
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "builder-client",
		Short: "Schedule jobs at a builder-server and watch their builds",
		Long: `Builder-client changes the schedule of a builder-server, watches its builds and
fetches their results.`,
		Example: `  builder-client schedule nightly debian-12 build.sh --cron "30 3 * * *" --tz Europe/Berlin
  builder-client execute nightly --follow
  builder-client -r build.example.org info`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name a command")
			}
			return usagef("unknown command %q", args[0])
		},
		RunE:              func(*cobra.Command, []string) error { return nil }, // Args refuses whatever comes
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.check() },
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	p := cmd.PersistentFlags()
	p.StringVarP(&o.remote, "remote", "r", cmp.Or(os.Getenv("BUILDER_REMOTE"), "localhost"),
		"`address` of the server: HOST or HOST:PORT (environment BUILDER_REMOTE)")
	p.IntVar(&o.protocol, "protocol", 0,
		fmt.Sprintf("force a protocol `version`: %d or %d (default: find out)", wire.OwnVersion, wire.ClientVersion))
	p.Var(program.Time(&o.keepAlive, 15*time.Second, wire.MinBeat), "keepalive",
		"`period` in which a client that waits shows that it is there, as the server does;\nafter three of them in silence the connection is made again")
	cmd.AddCommand(
		schedule(&o), unschedule(&o), execute(&o), reschedule(&o), orbBuild(&o), dropPlatform(&o), undropPlatform(&o),
		observe(&o), observeLatest(&o), info(&o), cancel(&o), builds(&o), download(&o), cat(&o), hashOf(&o), compare(&o), export(&o), pin(&o), unpin(&o), prune(&o),
		inspect(), outbox(&o), completion(),
	)
	return cmd
}

func (o *options) check() error {
	if o.protocol != 0 && o.protocol != wire.OwnVersion && o.protocol != wire.ClientVersion {
		return usagef("protocol %d is unknown: use %d or %d", o.protocol, wire.OwnVersion, wire.ClientVersion)
	}
	address, err := wire.Address(o.remote)
	if err != nil {
		return program.Usage(err)
	}
	o.remote = address
	return nil
}

// run wraps what a command does with a client, as cobra takes it.
func (o *options) run(do func(cmd *cobra.Command, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		c := client.New(o.remote, client.Options{Program: program.Name("builder-client"), Protocol: o.protocol, KeepAlive: o.keepAlive})
		defer func() { err = errors.Join(err, c.Close()) }()
		return do(cmd, c, args)
	}
}
