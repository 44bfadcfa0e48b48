package main_test

import (
	"bufio"
	"bytes"
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
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// bin is where TestMain builds the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "builder-server-test"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		build := exec.CommandContext(context.Background(), "go", "build", "-o", bin+"/", "builder/cmd/builder-server", "builder/cmd/builder-worker")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building the programs:", err)
			return 1
		}
		return m.Run()
	}())
}

// server is a process whose log is kept.
type server struct {
	cmd     *exec.Cmd
	address string
	log     *bytes.Buffer
	read    chan struct{} // closed when the log has ended
}

// start starts a server on a free port and waits until it listens.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "builder-server"), append(args, "--port", "0")...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: cmd, log: &bytes.Buffer{}, read: make(chan struct{})}
	address := make(chan string, 1)
	go func() {
		defer close(s.read)
		for lines := bufio.NewScanner(io.TeeReader(log, s.log)); lines.Scan(); {
			var entry struct{ Message, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Message == "listening" {
				address <- entry.Address
			}
		}
	}()
	select {
	case s.address = <-address:
	case <-s.read:
		t.Fatalf("the server did not start: %v\n%s", cmd.Wait(), s.log)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			<-s.read
			cmd.Wait()
		}
	})
	return s
}

// stop ends the server as an init system does.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.read
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("stopping the server: %v\n%s", err, s.log)
	}
}

// children are the processes that pid has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) == 0 {
		t.Skip("this system does not tell a process's children in /proc")
	}
	var all []int
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, child)
		}
	}
	slices.Sort(all)
	return all
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: ", what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// TestLocalWorkers: they build, they end with the server however it ends, and
// one that was killed is replaced.
func TestLocalWorkers(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--dir", dir, "--config-dir", t.TempDir(), "--local-workers", "2", "--local-platform", "here"}
	s := start(t, args...)
	c := client.New(s.address, client.Options{})
	defer c.Close()
	accepted, err := c.Schedule(t.Context(), job.Job{Name: "one", Platform: "here"}, []byte("echo $BUILDER_PLATFORM"), job.Plan{Period: job.Never}, false)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	err = c.Watch(t.Context(), wire.Watch{Run: accepted.Runs[0].ID, Job: "one"}, client.Viewer{
		Line: func(line job.Line) error {
			lines = append(lines, string(line.Data))
			return nil
		},
	})
	if err != nil || !slices.Equal(lines, []string{"here"}) {
		t.Errorf("watching gives %q, %v", lines, err)
	}
	wait(t, "both workers", func() bool { return len(children(t, s.cmd.Process.Pid)) == 2 })
	workers := children(t, s.cmd.Process.Pid)
	syscall.Kill(workers[0], syscall.SIGKILL)
	wait(t, "another worker in place of the killed one", func() bool {
		now := children(t, s.cmd.Process.Pid)
		return len(now) == 2 && !slices.Contains(now, workers[0])
	})
	workers = children(t, s.cmd.Process.Pid)
	s.cmd.Process.Kill()
	wait(t, "the end of the workers", func() bool { return !alive(workers[0]) && !alive(workers[1]) })
	<-s.read
	s.cmd.Wait()

	s = start(t, args...)
	wait(t, "both workers", func() bool { return len(children(t, s.cmd.Process.Pid)) == 2 })
	workers = children(t, s.cmd.Process.Pid)
	s.stop(t)
	if alive(workers[0]) || alive(workers[1]) {
		t.Error("a worker has outlived the server")
	}
}

// TestLocalWorkersStopped: the server that is stopped ends what its workers build; the
// run is built again, and that was no try.
func TestLocalWorkersStopped(t *testing.T) {
	args := []string{"--dir", t.TempDir(), "--config-dir", t.TempDir(), "--local-workers", "1"}
	last := uuid.Nil
	for range 2 {
		s := start(t, args...)
		c := client.New(s.address, client.Options{})
		if last == uuid.Nil {
			_, err := c.Schedule(t.Context(), job.Job{Name: "long", Platform: "local"}, []byte("sleep 1000"), job.Plan{Period: job.Never}, false)
			if err != nil {
				t.Fatal(err)
			}
		}
		wait(t, "a build", func() bool {
			status, err := c.Status(t.Context())
			if err != nil || len(status.Building) == 0 || status.Building[0].UUID == last {
				return false
			}
			b := status.Building[0]
			if last = b.UUID; b.Try != 1 {
				t.Errorf("try %d", b.Try)
			}
			return true
		})
		c.Close()
		s.stop(t)
	}
}

// TestExportState prints what the reference can read, and refuses while the
// server runs.
func TestExportState(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "--dir", dir, "--config-dir", t.TempDir())
	c := client.New(s.address, client.Options{})
	defer c.Close()
	for _, plan := range []job.Plan{{Period: job.Hourly}, {Cron: "30 3 * * *"}} {
		j := job.Job{Name: "job" + plan.Cron[:min(2, len(plan.Cron))], Platform: "p"}
		if _, err := c.Schedule(t.Context(), j, []byte("true"), plan, false); err != nil {
			t.Fatal(err)
		}
	}
	export := func() (string, string, error) {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "builder-server"), "export-state", "--dir", dir, "--log-level", "error")
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		return out.String(), errs.String(), err
	}
	if _, errs, err := export(); err == nil || !strings.Contains(errs, dir) {
		t.Errorf("beside a running server: %v, %s", err, errs)
	}
	s.stop(t)
	state, errs, err := export()
	if err != nil || !strings.Contains(errs, `job "job30": its plan`) {
		t.Errorf("export-state: %v, %s", err, errs)
	}
	var names []string
	err = wire.ReadState(strings.NewReader(state), int64(len(state)), func(item wire.StateItem) error {
		if item.Schedule != nil {
			names = append(names, fmt.Sprint(item.Schedule.Job.Name, " ", item.Schedule.Period))
		}
		return nil
	})
	slices.Sort(names)
	if want := []string{"job hourly", "job30 never"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the state has %q, %v, want %q", names, err, want)
	}
}

// TestBrackets: an IPv6 address is taken with and without them.
func TestBrackets(t *testing.T) {
	for _, ip := range []string{"::1", "[::1]"} {
		s := start(t, "--dir", t.TempDir(), "--config-dir", t.TempDir(), "--ip", ip)
		if !strings.HasPrefix(s.address, "[::1]:") {
			t.Errorf("--ip %s listens on %s", ip, s.address)
		}
		s.stop(t)
	}
}

// TestNoTemplates: a server without its directory of templates says so, and works.
func TestNoTemplates(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	s := start(t, "--dir", t.TempDir(), "--config-dir", missing)
	s.stop(t)
	if log := s.log.String(); !strings.Contains(log, `"level":"warn","dir":"`+missing+`"`) || !strings.Contains(log, "--config-dir does not exist") {
		t.Errorf("the log says nothing of %s:\n%s", missing, log)
	}
	s = start(t, "--dir", t.TempDir(), "--config-dir", t.TempDir())
	s.stop(t)
	if log := s.log.String(); strings.Contains(log, `"warn"`) {
		t.Errorf("an empty directory is warned of:\n%s", log)
	}
}

// TestRefused: wrong command lines and places, with what is told of them.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	busy := start(t, "--dir", t.TempDir(), "--config-dir", t.TempDir())
	_, port, _ := strings.Cut(busy.address, ":")
	for name, test := range map[string]struct {
		args   []string
		status int
		told   string
	}{
		"flag":        {[]string{"--nosuch"}, 2, "unknown flag"},
		"argument":    {[]string{"extra"}, 2, "extra"},
		"log level":   {[]string{"--log-level", "loud"}, 2, "loud"},
		"log level 7": {[]string{"--log-level", "7"}, 2, "use debug, info"},
		"log none":    {[]string{"--log-level", ""}, 2, "use debug, info"},
		"port":        {[]string{"--port", "65536"}, 2, "65535"},
		"keepalive":   {[]string{"--keepalive", "1ms"}, 2, "100ms"},
		"no timeout":  {[]string{"--timeout", "0"}, 2, `"0" for "--timeout" flag: use 1ms to 87672h`},
		"for ever":    {[]string{"--worker-grace", "2562047h"}, 2, `"--worker-grace" flag: use 1ms to 87672h`},
		"days":        {[]string{"--keep-uploaded-days", "200000"}, 2, "--keep-uploaded-days: 200000 days are too many"},
		"no dir":      {[]string{"--dir", ""}, 2, "--dir"},
		"upload":      {[]string{"--upload", "ftp://x"}, 2, "http"},
		"dir":         {[]string{"--dir", file}, 1, file},
		"config dir":  {[]string{"--config-dir", file}, 1, file + " is not a directory"},
		"busy port":   {[]string{"--port", port}, 1, "in use"},
		"no such ip":  {[]string{"--ip", "192.0.2.1"}, 1, "192.0.2.1"},
		"ip in words": {[]string{"--ip", "not an address"}, 1, "not an address"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--dir", t.TempDir(), "--config-dir", t.TempDir()}, test.args...)
			out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "builder-server"), args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != test.status || !strings.Contains(string(out), test.told) {
				t.Errorf("%v, want status %d and %q:\n%s", err, test.status, test.told, out)
			}
		})
	}
}
