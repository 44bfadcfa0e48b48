// Builder-server keeps a schedule of jobs, hands due ones to waiting workers,
// and keeps what their builds print and produce.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"builder/pkg/job"
	"builder/pkg/login"
	"builder/pkg/program"
	"builder/pkg/remote"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	status := program.Main(ctx, command())
	stop()
	os.Exit(status) //nolint:gocritic // stop was called
}

// options are the flags as typed.
type options struct {
	ip, dir, configDir, logLevel, localPlatform string
	port, localWorkers                          int

	storeAuthFile, storeCA string
	stores                 []string

	keep keepFlags

	timeout, workerGrace, collectTimeout, keepAlive time.Duration

	upload uploadOptions
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "builder-server",
		Short: "Schedule jobs and hand them to workers",
		Long: `Builder-server keeps a schedule of jobs on disk, hands due ones to waiting
workers, and keeps what their builds print and produce. Workers and clients
connect over TCP; nothing is encrypted or authenticated: run it on a network
that you trust.`,
		Example: `  builder-server --local-workers 2
  builder-server --ip 10.0.0.1 --upload https://builds.example.org/upload --upload-auth-file /etc/builder/upload-auth`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(o.check(), o.keep.parse()); err != nil {
				return program.Usage(err)
			}
			return serve(cmd.Context(), o)
		},
	}
	p := cmd.PersistentFlags()
	p.StringVar(&o.dir, "dir", program.DataDir(), "data `directory`; one that the reference wrote is taken over")
	p.StringVar(&o.configDir, "config-dir", program.ConfigDir(), "`directory` of job templates and upload-hooks")
	p.StringVar(&o.logLevel, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	f := cmd.Flags()
	f.StringVar(&o.ip, "ip", "127.0.0.1", "`address` to listen on; empty for all")
	f.IntVar(&o.port, "port", wire.DefaultPort, "TCP `port` to listen on; 0 for a free one, which is logged")
	o.upload.flags(f)
	o.storeFlags(f)
	f.IntVar(&o.localWorkers, "local-workers", 0, "start this `number` of workers on this machine")
	f.StringVar(&o.localPlatform, "local-platform", "local", "`platform` of the local workers")
	f.Var(program.Time(&o.timeout, server.DefaultTimeout, time.Millisecond), "timeout", "how `long` a build may run whose job sets no limit")
	f.Var(program.Time(&o.workerGrace, server.DefaultWorkerGrace, time.Millisecond), "worker-grace", "how `long` a worker may be away before its builds are lost; anew after each start")
	f.Var(program.Time(&o.collectTimeout, server.DefaultCollectTimeout, time.Millisecond), "collect-timeout", "how `long` the artifacts of a cancelled build may take, and those of others may make no progress")
	f.Var(program.Time(&o.keepAlive, server.DefaultHeartbeat, wire.MinBeat), "keepalive", "`interval` of signs of life; a peer that is silent three times as long is given up")
	o.keep.add(f)
	cmd.AddCommand(exportState(&o), verify(&o))
	return cmd
}

// check refuses what could only fail later, again and again.
func (o options) check() error {
	switch {
	case o.dir == "":
		return errors.New("--dir is empty: name a directory")
	case o.port < 0 || o.port > 65535:
		return fmt.Errorf("--port %d: use 1 to 65535, or 0 for a free one", o.port)
	case o.localWorkers < 0:
		return fmt.Errorf("--local-workers %d: the number must not be negative", o.localWorkers)
	case o.localWorkers > 0:
		return job.CheckName("platform", o.localPlatform)
	}
	return nil
}

// storeFlags add those by which artifacts are found that lie elsewhere.
func (o *options) storeFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.stores, "store", nil, "let workers put artifacts into the HTTP store at this `URL`, and read them there; repeatable")
	f.StringVar(&o.storeAuthFile, "store-auth-file", "", "`file` of lines \"URL USER:PASSWORD\", or USER:PASSWORD for all, that not everybody may read\n(or environment "+remote.Environment+")")
	f.StringVar(&o.storeCA, "store-ca", "", "`file` of certificates (PEM) to be believed beside the system's")
}

// openStores makes the stores that are named.
func (o options) openStores() (remote.Stores, error) {
	if len(o.stores) == 0 && (o.storeAuthFile != "" || o.storeCA != "") {
		return nil, errors.New("--store-auth-file and --store-ca need --store")
	}
	logins, err := login.Load(o.storeAuthFile, remote.Environment)
	if err != nil || len(o.stores) == 0 {
		return nil, err
	}
	return remote.NewStores(o.stores, remote.Options{Logins: logins, CAFile: o.storeCA})
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return program.Usage(fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}

func (o options) config(log zerolog.Logger) server.Config {
	return server.Config{
		Dir: o.dir, ConfigDir: o.configDir, HookTimeout: o.upload.hookTimeout, Program: program.Name("builder-server"), Log: log,
		Timeout: o.timeout, WorkerGrace: o.workerGrace, CollectTimeout: o.collectTimeout, Heartbeat: o.keepAlive,
		Retention: o.keep.retention, UploadedDays: o.keep.uploadedDays, Reserve: o.keep.reserve,
	}
}

// serve runs the server until ctx is done.
func serve(ctx context.Context, o options) (err error) {
	log, err := program.Logger(os.Stderr, o.logLevel)
	if err != nil {
		return err
	}
	if err := checkConfigDir(o.configDir, log); err != nil {
		return err
	}
	config := o.config(log)
	if config.Uploads, err = o.upload.frontends(log); err != nil {
		return program.Usage(err)
	}
	if config.Stores, err = o.openStores(); err != nil {
		return program.Usage(err)
	}
	s, err := server.Open(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Stopped, err = takeStopped(o.dir); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(bare(o.ip), strconv.Itoa(o.port)))
	if err != nil {
		return err
	}
	log.Info().Str("address", l.Addr().String()).Str("dir", o.dir).Msg("listening")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Serve(ctx, l) })
	if o.localWorkers > 0 {
		group.Go(func() error { return localWorkers(ctx, o, l.Addr(), log) })
	}
	if err = group.Wait(); err == nil {
		log.Info().Msg("ended")
	}
	return err
}

// bare is an address without the brackets that IPv6 ones have beside a port.
func bare(ip string) string {
	if inner, ok := strings.CutPrefix(ip, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return ip
}

// checkConfigDir says when there are no templates. That is no error: most jobs
// need none, the files are read when they are needed, and the reference starts
// as well.
func checkConfigDir(dir string, log zerolog.Logger) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Warn().Str("dir", dir).Msg("--config-dir does not exist: there are no templates, jobs that need one are refused")
		return nil
	case err != nil:
		return fmt.Errorf("looking for templates: %w", err)
	case !info.IsDir():
		return fmt.Errorf("--config-dir %s is not a directory", dir)
	}
	return nil
}

// exportState is the way back to the reference.
func exportState(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "export-state",
		Short: "Print the schedule as a state file of the reference",
		Long: `Export-state prints the schedule, the queues and the dropped platforms as a
state file of robur's builder, for the way back. The server must not run. What
that program does not know is told on standard error.`,
		Example: `  builder-server export-state --dir /var/lib/builder > state`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			log, err := program.Logger(os.Stderr, o.logLevel)
			if err != nil {
				return err
			}
			// A server makes the directory that it does not find: a mistyped name
			// would give the state of nothing.
			if _, err := os.Stat(filepath.Join(o.dir, "v1")); err != nil {
				return fmt.Errorf("reading state of %s: %w", o.dir, err)
			}
			s, err := server.Open(o.config(log))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			state, err := s.ExportState(func(name, what string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "job %q: %s\n", name, what)
			})
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(state)
			return err
		},
	}
}
