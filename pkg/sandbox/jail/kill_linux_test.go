package jail_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/jail"

	"github.com/google/go-cmp/cmp"
)

// killVariable has a plan for a worker: the test binary started again.
const killVariable = "JAIL_TEST_PLAN"

type plan struct {
	Host                          host
	Dir, Worker, Snapshot, Resolv string
	Network                       jail.Network
	Last                          int // the number of the command after which the worker is killed
}

// everything is a build that needs every command.
var everything = job.Resources{CPUs: 1000, Memory: 64 << 20, PIDs: 100, Disk: 8 << 20}

// build is one build, as a worker does it.
func build(s *jail.Sandbox) (err error) {
	what := spec("echo x >a; (setsid sleep 1000 &)")
	what.Resources = everything
	p, err := s.Prepare(context.Background(), what)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	if _, err := p.Run(context.Background(), io.Discard); err != nil {
		return err
	}
	_, _, err = p.Artifacts(nil)
	return err
}

func beWorker() error {
	var p plan
	if err := json.Unmarshal([]byte(os.Getenv(killVariable)), &p); err != nil {
		return err
	}
	count := 0
	conf := jail.Config{Dir: p.Dir, Worker: p.Worker, Snapshot: p.Snapshot, Resolv: p.Resolv, Network: p.Network}
	conf.Run = func(ctx context.Context, argv ...string) (string, error) {
		out, err := p.Host.call(ctx, argv...)
		if count++; count == p.Last {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				return "", err
			}
			select {}
		}
		return out, err
	}
	s, err := jail.New(context.Background(), conf)
	if err != nil {
		return err
	}
	return errors.Join(build(s), s.Close())
}

// steps are the first of the commands that are looked at, and how many are left out
// after each: STEP=1 looks at all of them; FIRST repeats a run.
func steps(t *testing.T) (first, step int) {
	t.Helper()
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	step = number("STEP", 3)
	first = number("FIRST", 1+rand.IntN(step))
	t.Logf("FIRST=%d STEP=%d", first, step)
	return first, step
}

// TestKilled kills a worker after each command of a build's life; the next worker
// sweeps, and nothing is left.
func TestKilled(t *testing.T) {
	m := newMachine(t)
	m.conf.Network = jail.Network{Bridge: "bridge0", Addresses: addresses("10.0.1.2/24")}
	killed := true
	for last, step := steps(t); killed; last += step {
		text, err := json.Marshal(plan{m.host, m.conf.Dir, m.conf.Worker, m.conf.Snapshot, m.conf.Resolv, m.conf.Network, last})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killVariable+"="+string(text))
		told, err := cmd.CombinedOutput()
		killed = cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
		if err != nil && !killed {
			t.Fatalf("the worker: %v\n%s", err, told)
		}
		m.swept(t, fmt.Sprintf("killed after command %d", last))
	}
}

// swept has a new worker sweep, and looks.
func (m *machine) swept(t *testing.T, when string) {
	t.Helper()
	s, err := jail.New(t.Context(), m.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Errorf("%s: %v\n%s", when, err, m.host.read("log"))
	}
	if diff := cmp.Diff([]string(nil), m.look()); diff != "" {
		t.Fatalf("%s: left behind (-want +got):\n%s", when, diff)
	}
}

// TestFails has each command of a build's life fail in turn, after it did its work:
// the error names it and what it said, and nothing is left after a Sweep.
func TestFails(t *testing.T) {
	m := newMachine(t)
	m.conf.Network = jail.Network{Interface: "lo1", Addresses: addresses("127.0.2.2/32")}
	failed := true
	for fail, step := steps(t); failed; fail += step {
		failed = false
		count := 0
		var command string
		conf := m.conf
		conf.Run = func(ctx context.Context, argv ...string) (string, error) {
			out, err := m.host.call(ctx, argv...)
			if count++; count != fail {
				return out, err
			}
			failed, command = true, strings.Join(argv, " ")
			return jail.Run(ctx, "sh", "-c", "echo no such luck >&2; exit 3", command)
		}
		s, err := jail.New(t.Context(), conf)
		if err == nil {
			err = build(s)
		}
		switch {
		case !failed && err != nil:
			t.Error(err)
		case failed && strings.HasPrefix(command, "sysctl kern.racct") && !errors.Is(err, sandbox.ErrUnenforced):
			t.Errorf("command %d, %s: %v", fail, command, err)
		case failed && !strings.HasPrefix(command, "sysctl") && (err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), command)):
			t.Errorf("command %d, %s: %v", fail, command, err)
		}
		m.swept(t, command)
	}
}

// TestHalf: jail(8) fails after it has mounted something.
func TestHalf(t *testing.T) {
	m := newMachine(t)
	m.host.write("half", "yes")
	s := m.open()
	_, err := s.Prepare(t.Context(), spec(""))
	if err == nil || !strings.Contains(err.Error(), "jail_set: Cannot allocate memory") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string(nil), m.look()); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

// TestReattach: the next worker reads what a killed one has left, and Sweep leaves it.
func TestReattach(t *testing.T) {
	m := newMachine(t)
	first := m.open()
	left, err := first.Prepare(t.Context(), spec("echo kept >file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := left.Run(t.Context(), new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	second := m.open()
	for _, name := range []string{"", "../builds", "builder-none", "builder-" + m.conf.Worker[:8] + "-none"} {
		if _, err := second.Reattach(name); err == nil {
			t.Errorf("%q was attached", name)
		}
	}
	again, err := second.Reattach(left.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := again.Run(t.Context(), new(bytes.Buffer)); err == nil {
		t.Error("it was run again")
	}
	artifacts, _, err := again.Artifacts(nil)
	if err != nil || len(artifacts) != 1 || artifacts[0].Path != "file" {
		t.Errorf("artifacts %v, %v", artifacts, err)
	}
	if err := again.Destroy(); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(m.conf.Dir, left.Name()), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Reattach(left.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its dataset: %v", err)
	}
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
}
