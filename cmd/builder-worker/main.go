// Builder-worker connects to a builder-server, waits for a build of its
// platform, runs it in a sandbox and delivers what it printed and left.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"builder/pkg/program"
	"builder/pkg/remote"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/spf13/cobra"
)

func main() {
	if sandbox.IsSupervisor() {
		if err := sandbox.Supervise(); err != nil {
			fmt.Fprintln(os.Stderr, "builder-worker: supervisor:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(program.Main(context.Background(), command()))
}

// tempFail is EX_TEMPFAIL of sysexits.h: trying again later may help.
const tempFail = 75

func command() *cobra.Command {
	var o options
	all := kinds()
	cmd := &cobra.Command{
		Use:   "builder-worker PLATFORM",
		Short: "Run builds of one platform for a builder-server",
		Long: `Builder-worker connects to a server, waits for a build of its platform, runs
it in a fresh place, and delivers console, result and artifacts.

By default it does one build and exits with status 0 when that is delivered:
run it in a throw-away jail or container, once per jail. With --persistent it
does one build after the other, or several at once.

Builds survive a lost connection, and with --dir also the death of the worker:
what it had not delivered is delivered when it is started again.

SIGTERM or SIGINT: take no new build, finish and deliver those that run, exit.
The same again: end those that run, deliver that, exit. Once more: exit at once.

Exit status 75: the server could not be reached in --max-retries attempts.`,
		Example: `  builder-worker debian-12
  builder-worker -r build.example.org --persistent --slots 4 --dir /var/lib/builder-worker freebsd-14`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return program.Usage(errors.New("name one platform"))
			}
			return nil
		},
		PersistentPreRunE: o.readConfig,
		RunE:              func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args[0], o, all) },
	}
	f := cmd.PersistentFlags() // check and sweep read the same configuration
	f.StringVar(&o.config, "config", "", "`file` of settings: flags without dashes, one in a line, with their values")
	f.StringVarP(&o.remote, "remote", "r", cmp.Or(os.Getenv("BUILDER_REMOTE"), "localhost"),
		"`address` of the server: HOST or HOST:PORT (environment BUILDER_REMOTE)")
	f.StringVar(&o.name, "name", "", "`name` that people are shown (default: the host's)")
	f.StringVar(&o.dir, "dir", "", "`directory` for the worker's identity and its builds, one process at a time\n(default: a temporary one, gone afterwards)")
	f.StringVar(&o.shutdownFile, "shutdown-file", "", "end as with SIGTERM when this `file` appears, or its time changes")
	f.BoolVar(&o.persistent, "persistent", false, "do one build after the other instead of one")
	f.IntVar(&o.slots, "slots", 1, "`number` of builds at once, with --persistent")
	f.IntVar(&o.warm, "warm", 0, "`number` of places that are prepared ahead of builds, beside what costs nothing")
	f.IntVar(&o.keepFailed, "keep-failed", 0, "keep the places of the last `N` failed builds, and log how to enter them; N is 1\nif not given (--keep-failed=N); sweep --all removes them")
	f.Lookup("keep-failed").NoOptDefVal = "1"
	f.Var(program.Time(&o.maxDelay, time.Minute, time.Second), "max-delay", "longest `pause` before a lost connection is made again; the first is 1s")
	f.IntVar(&o.maxRetries, "max-retries", 0, "`number` of attempts to connect that may fail in a row, 0 for any number;\nthen exit with status 75")
	f.Var(program.Time(&o.keepAlive, 15*time.Second, wire.MinBeat), "keepalive", "`period` in which the worker shows that it is there, as the server does;\nafter three of them in silence the connection is made again")
	addKinds(f, all, &o.isolation)
	o.resources.Add(f)
	f.StringArrayVar(&o.env, "env", nil, "pass on this environment `variable` to builds: NAME, or NAME=VALUE; repeatable")
	f.IntVar(&o.protocol, "protocol", 0, fmt.Sprintf("force a protocol `version`: %d or %d (default: find out)", wire.OwnVersion, wire.WorkerVersion))
	f.StringVar(&o.store, "store", "", "put artifacts into the HTTP store at this `URL`, if the server takes it;\nwhat it does not take goes to the server")
	f.StringVar(&o.storeAuthFile, "store-auth-file", "", "`file` of lines \"URL USER:PASSWORD\", or USER:PASSWORD, that not everybody may read\n(or environment "+remote.Environment+")")
	f.StringVar(&o.storeCA, "store-ca", "", "`file` of certificates (PEM) to be believed beside the system's")
	f.StringVar(&o.logLevel, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	cmd.AddCommand(checkCommand(&o, all), sweepCommand(&o, all))
	cmd.AddCommand(kindCommands(all)...)
	cmd.CompletionOptions.DisableDefaultCmd = true
	return cmd
}

func run(ctx context.Context, platform string, o options, all []kind) (err error) {
	// Whatever is done for a build waits for something else that is done for it, and
	// waking threads for that costs more than it brings.
	runtime.GOMAXPROCS(max(1, o.slots))
	log, err := program.Logger(os.Stderr, o.logLevel)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return program.Usage(err)
	}
	chosen, err := find(all, o.isolation)
	if err != nil {
		return program.Usage(err)
	}
	address, err := wire.Address(o.remote)
	if err != nil {
		return program.Usage(err)
	}
	resources, err := o.resources.Resources()
	if err != nil {
		return program.Usage(err)
	}
	env, err := passedOn(o.env)
	if err != nil {
		return program.Usage(err)
	}
	store, err := o.openStore()
	if err != nil {
		return program.Usage(err)
	}
	if o.name == "" {
		if o.name, err = os.Hostname(); err != nil {
			return fmt.Errorf("asking for the host's name: %w; give one with --name", err)
		}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "builder-worker-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sandbox.Remove(o.dir)) }()
		log.Info().Str("dir", o.dir).Msg("no --dir: builds survive a lost connection, not the end of this process")
	}
	dir, err := worker.OpenDirectory(o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	here := site{dir: dir, platform: platform, slots: o.slots, warm: o.warm, log: log}
	if err := works(ctx, chosen, here); err != nil {
		return err
	}
	if err := dir.Claim(chosen.name()); err != nil {
		return err
	}
	box, err := chosen.open(ctx, here)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if err := box.Enforces(resources); err != nil {
		return err
	}
	ctx, drain, release := stops(ctx, o.shutdownFile, log)
	defer release()
	err = worker.Run(ctx, drain, worker.Config{
		Platform: platform, Remote: address, Name: o.name, Dir: dir, Persistent: o.persistent, Slots: o.slots,
		Protocol: o.protocol, MaxDelay: o.maxDelay, MaxRetries: o.maxRetries, KeepAlive: o.keepAlive,
		Env: env, Sandbox: box, Resources: resources, KeepFailed: o.keepFailed, Store: store, Program: program.Name("builder-worker"), Log: log.With().Str("worker", o.name).Logger(),
	})
	if errors.Is(err, worker.ErrAway) {
		return program.Status(err, tempFail)
	}
	return err
}
