package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"builder/pkg/client"
)

// server is a builder-server process.
type server struct {
	cmd     *exec.Cmd
	address string
	drained chan struct{}
}

// startServer starts a server and waits until it listens.
func (b *bench) startServer(ctx context.Context) (*server, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "builder-server"),
		"--dir", filepath.Join(b.dir, "data"), "--config-dir", b.dir, "--port", "0")
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, drained: make(chan struct{})}
	listening := make(chan string, 1)
	go s.readLog(log, listening)
	select {
	case s.address = <-listening:
		return s, nil
	case <-s.drained:
		return nil, errors.Join(errors.New("the server did not start"), cmd.Wait())
	}
}

func (s *server) readLog(log io.Reader, listening chan<- string) {
	defer close(s.drained)
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Level, Message, Address, Err string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil {
			continue
		}
		if entry.Message == "listening" {
			listening <- entry.Address
		}
		if entry.Level == "error" {
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.drained
	return s.cmd.Wait()
}

// memory is a field of the server's /proc status in octets: VmRSS, VmHWM.
func (s *server) memory(field string) (int64, error) { return memory(s.cmd.Process.Pid, field) }

// memory is such a field of any process.
func memory(pid int, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of the process", field)
}

// client makes a client of the server.
func (s *server) client() *client.Client {
	return client.New(s.address, client.Options{Program: "bench"})
}

// workers are builder-worker processes.
type workers []*exec.Cmd

func (w workers) stop() {
	for _, cmd := range w {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it is gone then
		cmd.Wait()                          //nolint:errcheck // as above
	}
}

func (w workers) pids() []int {
	var pids []int
	for _, cmd := range w {
		pids = append(pids, cmd.Process.Pid)
	}
	return pids
}

// startWorkers starts n persistent workers of the platform "bench".
func (b *bench) startWorkers(ctx context.Context, s *server, n int) (workers, error) {
	var running workers
	for i := range n {
		args := append([]string{
			"-r", s.address, "--persistent", "--log-level", "error", "--dir", filepath.Join(b.dir, "worker"+strconv.Itoa(i)),
		}, flagsOf(b.flags, i)...)
		cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "builder-worker"), append(args, "bench")...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			running.stop()
			return nil, err
		}
		running = append(running, cmd)
	}
	return running, nil
}

// fleet is what a measurement begins with: a server, workers, and a client to ask.
type fleet struct {
	*server
	workers
	asking *client.Client
}

// startFleet starts a server with n workers.
func (b *bench) startFleet(ctx context.Context, n int) (*fleet, error) {
	s, err := b.startServer(ctx)
	if err != nil {
		return nil, err
	}
	workers, err := b.startWorkers(ctx, s, n)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return &fleet{s, workers, s.client()}, nil
}

// stop ends all of it.
func (f *fleet) stop() error {
	f.asking.Close() //nolint:errcheck // nothing is lost
	f.workers.stop()
	return f.server.stop()
}

// median sorts the durations.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
