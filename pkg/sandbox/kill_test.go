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

// stubborn ignores all that can be ignored, in every way of getting away that
// a shell has.
const stubborn = `
trap '' TERM HUP INT
(setsid sh -c 'trap "" TERM; while :; do sleep 1000; done' &)
(setsid setsid sh -c '(sleep 1000 &) ; sleep 1000' &) &
nohup sleep 1000 >/dev/null 2>&1 &
sleep 1000 | sleep 1000 &
`

// tree is how many processes stubborn starts at least, besides the script.
const tree = 6

func TestNothingSurvivesTheScript(t *testing.T) {
	tests := []struct{ name, script string }{
		{"the script ends", stubborn + "sleep 0.1; exit 7"},
		{"with outputs closed", stubborn + "exec >&- 2>&-; exit 7"},
		{"stopped processes", "(setsid sh -c 'kill -STOP $$' &); sh -c 'kill -STOP $$' & exit 7"},
		{"100 orphans", "i=0; while [ $i -lt 100 ]; do (sleep 1000 &); i=$((i+1)); done; exit 7"},
		{"forking faster than it can be looked at", `
			cat >f <<-'END'
			i=0; while [ $i -lt 500 ]; do setsid sh -c 'sleep 1000' & i=$((i+1)); done; wait
			END
			(setsid sh f &); (setsid sh f &); sleep 0.05; exit 7`},
		{"chain of forks", `
			cat >f <<-'END'
			[ $1 = 0 ] && exit; setsid sh f $(($1-1)) &
			END
			sh f 1000 & exit 7`},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec, mark := markedSpec(t, test.script)
			exit, _, err := runIn(t.Context(), prepare(t, p, spec))
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("alive: %v", left)
			}
			if err != nil || exit.Code != 7 || exit.Cause != nil {
				t.Errorf("exit %+v, error %v", exit, err)
			}
		})
	}
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

func TestCancel(t *testing.T) {
	cause := errors.New("cancelled by a person")
	tests := []struct {
		name, script string
		grace        time.Duration
		want         sandbox.Exit
		artifacts    int
	}{
		{"dies by TERM", "echo; sleep 1000", time.Minute, sandbox.Exit{Signal: syscall.SIGTERM}, 0},
		{"ends well at TERM", `trap 'echo >a; exit 5' TERM; echo; while :; do sleep 0.01; done`, time.Minute, sandbox.Exit{Code: 5}, 1},
		{"ignores TERM", "trap '' TERM; echo; while :; do sleep 1000; done", 50 * time.Millisecond, sandbox.Exit{Signal: syscall.SIGKILL}, 0},
		{"is stopped", "echo; kill -STOP $$", time.Minute, sandbox.Exit{Signal: syscall.SIGTERM}, 0},
		{"whole tree", stubborn + "echo; wait", 50 * time.Millisecond, sandbox.Exit{Signal: syscall.SIGKILL}, 0},
		{
			"children have the grace period though the script does not use it",
			`(trap 'sleep 0.1; echo >a; exit' TERM; echo; while :; do sleep 0.01; done) & wait`,
			time.Minute,
			sandbox.Exit{Signal: syscall.SIGTERM},
			1,
		},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec, mark := markedSpec(t, test.script)
			spec.Grace = test.grace
			place := prepare(t, p, spec)
			ctx, cancel := context.WithCancelCause(t.Context())
			printed := make(consoleSignal, 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				<-printed
				cancel(cause)
			}()
			exit, err := place.Run(ctx, printed)
			<-done
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("alive: %v", left)
			}
			if err != nil || !errors.Is(exit.Cause, cause) || exit.Code != test.want.Code || exit.Signal != test.want.Signal {
				t.Errorf("exit %+v, error %v, want %+v", exit, err, test.want)
			}
			if artifacts, _, err := place.Artifacts(nil); err != nil || len(artifacts) != test.artifacts {
				t.Errorf("artifacts %v, error %v", artifacts, err)
			}
		})
	}
}

// TestSupervisorKilled is a build that attacks its supervisor.
func TestSupervisorKilled(t *testing.T) {
	tests := []struct {
		name, script string
		want         string
	}{
		{"killed", stubborn + "kill -KILL $PPID; sleep 1000", "signal: killed"},
		{"killed by a grandchild", stubborn + "(kill -KILL $PPID; sleep 1000); sleep 1000", "signal: killed"},
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
	printed := make(consoleSignal, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-printed
		cancel()
	}()
	exit, err := place.Run(ctx, printed)
	<-done
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

// beWorker is a worker process that runs one build and never ends by itself. It
// tells in a file that the build runs.
func beWorker(dir string) error {
	p, err := sandbox.NewPlain(filepath.Join(dir, "builds"), 1)
	if err != nil {
		return err
	}
	place, err := p.Prepare(context.Background(), sandbox.Spec{
		Script: []byte(os.Getenv("SANDBOX_TEST_SCRIPT")),
		Env:    []string{os.Getenv("SANDBOX_TEST_MARK"), "RUNNING=" + filepath.Join(dir, "running")},
		Grace:  time.Hour,
	})
	if err != nil {
		return err
	}
	_, err = place.Run(context.Background(), os.Stderr)
	return errors.Join(err, errors.New("the build ended"))
}

// TestWorkerKilled kills a worker process with -9 while its build runs.
func TestWorkerKilled(t *testing.T) {
	tests := []struct{ name, script string }{
		{"during a build", stubborn + `sleep 0.1; echo >"$RUNNING"; wait`},
		{"with outputs closed", stubborn + `exec >&- 2>&-; sleep 0.1; echo >"$RUNNING"; wait`},
		{"supervisor stopped", stubborn + `sleep 0.1; kill -STOP $PPID; echo >"$RUNNING"; wait`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			mark := "MARK=" + dir
			worker := exec.Command(os.Args[0])
			worker.Env = append(os.Environ(),
				"SANDBOX_TEST_WORKER="+dir, "SANDBOX_TEST_SCRIPT="+test.script, "SANDBOX_TEST_MARK="+mark)
			worker.Stderr = os.Stderr
			if err := worker.Start(); err != nil {
				t.Fatal(err)
			}
			defer worker.Wait()
			defer worker.Process.Kill()
			wait(t, "the build runs", func() bool { return readFile(t, dir, "running") != "" })
			running := marked(t, mark)
			if len(running) < tree {
				t.Errorf("only %d processes run", len(running))
			}
			supervisors := children(t, worker.Process.Pid)
			if err := worker.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			wait(t, "the build dies", func() bool { return len(marked(t, mark)) == 0 })
			wait(t, "its supervisor ends", func() bool { return !slices.ContainsFunc(supervisors, alive) })

			p, err := sandbox.NewPlain(filepath.Join(dir, "builds"), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := p.Sweep(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "builds")); err != nil || len(left) > 0 {
				t.Errorf("left: %v (%v)", left, err)
			}
		})
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
