package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
)

// children are the direct children of a process, zombies too.
func children(t testing.TB, parent int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
		if fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}

// markedSpec is a Spec whose processes can be found by a variable that no other
// process has.
func markedSpec(t testing.TB, script string) (sandbox.Spec, string) {
	t.Helper()
	mark := fmt.Sprintf("SANDBOX_TEST_MARK=%s %d", t.Name(), time.Now().UnixNano())
	return sandbox.Spec{Script: []byte(script), Env: []string{mark}, Grace: 100 * time.Millisecond}, mark
}

// consoleSignal is a writer that tells when the build has printed something.
type consoleSignal chan struct{}

func (c consoleSignal) Write(p []byte) (int, error) {
	select {
	case c <- struct{}{}:
	default:
	}
	return len(p), nil
}

// TestSupervisorKilled is a build that attacks its supervisor.
func TestSupervisorKilled(t *testing.T) {
	tests := []struct {
		name, script string
		want         string
	}{
		{"killed", conform.Stubborn + "kill -KILL $PPID; sleep 1000", "signal: killed"},
		{"killed by a grandchild", conform.Stubborn + "(kill -KILL $PPID; sleep 1000); sleep 1000", "signal: killed"},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			script := strings.ReplaceAll(test.script, "(kill -KILL $PPID", "P=$PPID; (kill -KILL $P")
			spec, mark := markedSpec(t, script)
			_, _, err := runIn(t.Context(), prepare(t, p, spec))
			if !errors.Is(err, sandbox.ErrSupervisor) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error %v", err)
			}
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("alive: %v", left)
			}
			if _, console := run(t, p, "echo next"); console != "next\n" {
				t.Errorf("the next build printed %q", console)
			}
		})
	}
}

// TestSupervisorSignalled sends a supervisor what a service manager may send to
// the whole unit: the worker decides, not the supervisor.
func TestSupervisorSignalled(t *testing.T) {
	exit, console := run(t, newPlain(t), "kill -TERM $PPID; kill -INT $PPID; kill -HUP $PPID; echo on")
	if exit.Code != 0 || exit.Signal != 0 || console != "on\n" {
		t.Errorf("exit %+v, console %q", exit, console)
	}
}

// TestSupervisorStopped is a build that stops its supervisor: cancelling wakes it.
func TestSupervisorStopped(t *testing.T) {
	spec, mark := markedSpec(t, "kill -STOP $PPID; echo; sleep 1000")
	place := prepare(t, newPlain(t), spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	exit, err := place.Run(ctx, conform.AtOutput(cancel))
	if err != nil || exit.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v, error %v", exit, err)
	}
	if left := marked(t, mark); len(left) > 0 {
		t.Errorf("alive: %v", left)
	}
}

// TestIdleSupervisorKilled has nobody notice but the next build, which must not
// fail for it.
func TestIdleSupervisorKilled(t *testing.T) {
	p := newPlain(t)
	_, console := run(t, p, "echo $PPID")
	supervisor := pids(t, console)[0]
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, "the supervisor dies", func() bool { // with all its threads, and so its socket
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", supervisor))
		return !alive(supervisor) && (err != nil || len(threads) <= 1)
	})
	if _, console := run(t, p, "echo $PPID"); pids(t, console)[0] == supervisor {
		t.Error("it was not replaced")
	}
}

func TestSupervisorIsReused(t *testing.T) {
	p := newPlain(t)
	_, first := run(t, p, "(sleep 1000 &); echo $PPID")
	_, second := run(t, p, "echo $PPID")
	if first != second {
		t.Errorf("supervisors %q and %q", first, second)
	}
}

// TestOthersChildrenLive kills a supervisor while this process has a child of
// its own and another build runs: neither may be taken for an orphan.
func TestOthersChildrenLive(t *testing.T) {
	p := newPlain(t)
	own := exec.Command("sleep", "1000")
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	defer own.Wait()
	defer own.Process.Kill()

	other := prepare(t, p, sandbox.Spec{Script: []byte("echo; sleep 1000"), Grace: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	printed := make(consoleSignal, 1)
	ended := make(chan sandbox.Exit, 1)
	go func() {
		exit, err := other.Run(ctx, printed)
		if err != nil {
			t.Errorf("the other build: %v", err)
		}
		ended <- exit
	}()
	<-printed
	_, _, err := runIn(t.Context(), prepare(t, p, sandbox.Spec{Script: []byte("kill -KILL $PPID; sleep 1000")}))
	if !errors.Is(err, sandbox.ErrSupervisor) {
		t.Errorf("error %v", err)
	}
	if !alive(own.Process.Pid) {
		t.Error("a child of the worker was killed")
	}
	cancel()
	if exit := <-ended; exit.Signal != syscall.SIGTERM {
		t.Errorf("the other build: %+v", exit)
	}
}

// TestCloseEndsSupervisors: an idle supervisor goes with its sandbox.
func TestCloseEndsSupervisors(t *testing.T) {
	before := children(t, os.Getpid())
	p, err := sandbox.NewPlain(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(children(t, os.Getpid())) - len(before); n != 3 {
		t.Errorf("%d supervisors", n)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if left := children(t, os.Getpid()); !slices.Equal(left, before) {
		t.Errorf("children before %v, after %v", before, left)
	}
}
