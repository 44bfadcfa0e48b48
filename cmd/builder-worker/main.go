// Builder-worker connects to a builder-server, waits for a build of its
// platform, runs it in a sandbox and delivers what it printed and left.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"builder/pkg/program"
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

// options are the flags as typed.
type options struct {
	remote, name, dir, isolation, logLevel string
	persistent                             bool
	protocol                               int
	env                                    []string
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "builder-worker PLATFORM",
		Short: "Run builds of one platform for a builder-server",
		Long: `Builder-worker connects to a server, waits for a build of its platform, runs
it in a fresh place, and delivers console, result and artifacts.

By default it does one build and exits with status 0 when that is delivered:
run it in a throw-away jail or container, once per jail. With --persistent it
does one build after the other.

SIGTERM or SIGINT: take no new build, finish the one that runs, exit.
The same again: kill the one that runs, exit.`,
		Example: `  builder-worker debian-12
  builder-worker -r build.example.org --persistent --dir /var/lib/builder-worker freebsd-14`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return program.Usage(errors.New("name one platform"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.remote, "remote", "r", cmp.Or(os.Getenv("BUILDER_REMOTE"), "localhost"),
		"`address` of the server: HOST or HOST:PORT (environment BUILDER_REMOTE)")
	f.StringVar(&o.name, "name", "", "`name` that people are shown (default: the host's)")
	f.StringVar(&o.dir, "dir", "", "`directory` for the worker's identity and its builds, one process at a time\n(default: a temporary one, gone afterwards)")
	f.BoolVar(&o.persistent, "persistent", false, "do one build after the other instead of one")
	f.StringVar(&o.isolation, "isolation", "none", "`kind` of place for a build: none (a plain process)")
	f.StringArrayVar(&o.env, "env", nil, "pass on this environment `variable` to builds: NAME, or NAME=VALUE; repeatable")
	f.IntVar(&o.protocol, "protocol", 0, fmt.Sprintf("force a protocol `version`: %d or %d (default: find out)", wire.OwnVersion, wire.WorkerVersion))
	f.StringVar(&o.logLevel, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	return cmd
}

func run(ctx context.Context, platform string, o options) (err error) {
	// One build at a time: whatever is done for it waits for something else that
	// is done for it, and waking threads for that costs more than it brings.
	runtime.GOMAXPROCS(1)
	log, err := program.Logger(os.Stderr, o.logLevel)
	if err != nil {
		return err
	}
	if o.isolation != "none" {
		return program.Usage(fmt.Errorf("isolation %q is unknown: use none", o.isolation))
	}
	if o.protocol != 0 && o.protocol != wire.OwnVersion && o.protocol != wire.WorkerVersion {
		return program.Usage(fmt.Errorf("protocol %d is unknown: use %d or %d", o.protocol, wire.OwnVersion, wire.WorkerVersion))
	}
	remote, err := wire.Address(o.remote)
	if err != nil {
		return program.Usage(err)
	}
	env, err := passedOn(o.env)
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
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
		log.Info().Msg("no --dir: this worker's identity ends with it")
	}
	dir, err := worker.OpenDirectory(o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	place, err := sandbox.NewPlain(dir.Builds(), 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	if err := place.Sweep(); err != nil {
		return err
	}
	ctx, drain, release := stopSignals(ctx)
	defer release()
	return worker.Run(ctx, drain, worker.Config{
		Platform: platform, Remote: remote, Name: o.name, Dir: dir, Persistent: o.persistent, Protocol: o.protocol,
		Env: env, Sandbox: place, Program: program.Name("builder-worker"), Log: log.With().Str("worker", o.name).Logger(),
	})
}

// passedOn looks up the variables that are named without a value.
func passedOn(names []string) ([]string, error) {
	var env []string
	for _, name := range names {
		if key, _, _ := strings.Cut(name, "="); key == "" {
			return nil, fmt.Errorf("--env %q: the name is empty", name)
		}
		if !strings.Contains(name, "=") {
			value, ok := os.LookupEnv(name)
			if !ok {
				return nil, fmt.Errorf("--env %s: the worker's environment has no such variable", name)
			}
			name += "=" + value
		}
		env = append(env, name)
	}
	return env, nil
}

// stopSignals ends drain at the first signal, and ctx too at the second.
func stopSignals(parent context.Context) (ctx, drain context.Context, release func()) {
	ctx, kill := context.WithCancel(parent)
	drain, stop := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, end := range []func(){stop, kill} {
			select {
			case <-signals:
				end()
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, drain, func() {
		signal.Stop(signals)
		kill()
		<-done
		stop()
	}
}
