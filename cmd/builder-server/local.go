package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"builder/pkg/program"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// restartPause is how long a local worker that ended stays away.
const restartPause = time.Second

// localWorkers runs workers as child processes until ctx is done. They end with
// this process, however it ends.
func localWorkers(ctx context.Context, o options, address net.Addr, log zerolog.Logger) error {
	path, err := program.Sibling("builder-worker")
	if err != nil {
		return err
	}
	remote := loopback(address)
	var group errgroup.Group
	for i := range o.localWorkers {
		dir := filepath.Join(o.dir, "v1", "workers", strconv.Itoa(i+1))
		log := log.With().Int("local", i+1).Logger()
		group.Go(func() error {
			// The kernel kills the child when the thread that started it ends.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for ctx.Err() == nil {
				err := localWorker(ctx, path, "--persistent", "--remote", remote, "--dir", dir, "--name", "local-"+strconv.Itoa(i+1),
					"--keepalive", o.keepAlive.String(), "--log-level", o.logLevel, o.localPlatform)
				if ctx.Err() != nil {
					break
				}
				log.Error().Err(err).Msg("a local worker ended")
				select {
				case <-time.After(restartPause):
				case <-ctx.Done():
				}
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), noteStopped(o.dir))
}

// stoppedFile has the identities of local workers that ended since their server was
// stopped, until the next one has read it.
func stoppedFile(dir string) string { return filepath.Join(dir, "v1", "workers", "stopped") }

// noteStopped notes those that this server had, and others that are there.
func noteStopped(dir string) error {
	workers := filepath.Dir(stoppedFile(dir))
	entries, err := os.ReadDir(workers)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // stopped before any of them began
	}
	if err != nil {
		return err
	}
	var all []byte
	for _, entry := range entries {
		id, err := os.ReadFile(filepath.Join(workers, entry.Name(), "id"))
		if err != nil && entry.IsDir() && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		all = append(append(all, id...), '\n')
	}
	return os.WriteFile(stoppedFile(dir), all, 0o644)
}

// takeStopped are the identities that the last server has noted, if it was stopped.
func takeStopped(dir string) ([]string, error) {
	text, err := os.ReadFile(stoppedFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(text)), os.Remove(stoppedFile(dir))
}

// localWorker runs one worker to its end.
func localWorker(ctx context.Context, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	// A group of its own: Ctrl-C on a terminal is for the server to act on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	// Its builds can not be delivered to a server that ends.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s: %w", path, err)
	}
	return nil
}

// loopback is where a server that listens on that address is reached from this
// machine.
func loopback(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return address.String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
