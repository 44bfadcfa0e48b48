package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// server is a builder-server process. It logs into a file, as it is run: who reads along
// would be measured with it.
type server struct {
	cmd     *exec.Cmd
	log     string // name of the file
	address string
	ended   chan struct{} // closed when the process has, with err
	err     error
}

// startServer starts a server, with more flags, and waits until it listens.
func (b *bench) startServer(ctx context.Context, flags ...string) (*server, error) {
	s := &server{log: filepath.Join(b.dir, "server.log"), ended: make(chan struct{})}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.CommandContext(ctx, filepath.Join(b.bin, "builder-server"),
		append(flags, "--dir", filepath.Join(b.dir, "data"), "--config-dir", b.dir, "--port", "0")...)
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		s.err = s.cmd.Wait()
	}()
	for s.address == "" {
		select {
		case <-s.ended:
			return nil, errors.Join(errors.New("the server did not start"), s.err, s.showErrors())
		case <-time.After(time.Millisecond):
		}
		err := s.eachLogged(`"message":"listening"`, func(line []byte) {
			var entry struct{ Address string }
			if json.Unmarshal(line, &entry) == nil {
				s.address = entry.Address
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// eachLogged calls found for each line of the log that has the text in it.
func (s *server) eachLogged(text string, found func(line []byte)) error {
	log, err := os.ReadFile(s.log)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte(text)) {
			found(line)
		}
	}
	return nil
}

// showErrors prints what the server logged as errors.
func (s *server) showErrors() error {
	return s.eachLogged(`"level":"error"`, func(line []byte) { os.Stderr.Write(line) }) //nolint:errcheck // there is no other place
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.ended
	return errors.Join(s.err, s.showErrors())
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

// worker is a builder-worker process, or none.
type worker struct{ *exec.Cmd }

// stop ends the worker and waits for it.
func (w worker) stop() {
	if w.Cmd == nil {
		return
	}
	w.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it is gone then
	w.Wait()                          //nolint:errcheck // as above
}

// startWorker starts a persistent worker of the platform "bench" with n slots; none
// for 0.
func (b *bench) startWorker(ctx context.Context, s *server, n int) (worker, error) {
	if n == 0 {
		return worker{}, nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "builder-worker"), slices.Concat([]string{
		"-r", s.address, "--persistent", "--slots", strconv.Itoa(n), "--log-level", "error", "--dir", filepath.Join(b.dir, "worker"),
	}, b.flags, []string{"bench"})...)
	cmd.Stderr = os.Stderr
	return worker{cmd}, cmd.Start()
}

// fleet is what a measurement begins with: a server, a worker, and a client to ask.
type fleet struct {
	*server
	worker worker
	asking *client.Client
}

// startFleet starts a server, with more flags, and a worker with n slots.
func (b *bench) startFleet(ctx context.Context, n int, flags ...string) (*fleet, error) {
	s, err := b.startServer(ctx, flags...)
	if err != nil {
		return nil, err
	}
	w, err := b.startWorker(ctx, s, n)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return &fleet{s, w, s.client()}, nil
}

// stop ends all of it.
func (f *fleet) stop() error {
	f.asking.Close() //nolint:errcheck // nothing is lost
	f.worker.stop()
	return f.server.stop()
}

// median sorts the durations.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
