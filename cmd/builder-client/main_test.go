package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cli "builder/cmd/builder-client"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the server and the worker, which are real processes in the
// scripts; the client is this test's binary.
func TestMain(m *testing.M) {
	testscript.Main(withPrograms{m}, map[string]func(){"builder-client": cli.Main})
}

type withPrograms struct{ m *testing.M }

// Run implements testscript.TestingM.
func (p withPrograms) Run() int {
	dir, err := os.MkdirTemp("", "builder-client-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "builder/cmd/builder-server", "builder/cmd/builder-worker")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the programs: %v\n%s", err, out)
		return 1
	}
	// The race detector lets each process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return p.m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": startServer, "restart": restartServer, "worker": startWorker, "replace": replaceWorker, "manual": runManual, "legacy": startLegacy, "fickle": startFickle,
			"status": exitStatus, "interrupt": interrupt, "result": makeResult, "capture": capture, "until": until,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
	})
}

// exitStatus runs the client and checks its exit status: status N COMMAND...
func exitStatus(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	err := ts.Exec("builder-client", args[1:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// startServer runs a server with its data in data and its templates in
// templates, and sets BUILDER_REMOTE to where it listens.
func startServer(ts *testscript.TestScript, _ bool, args []string) {
	startServerAt(ts, "0", args)
}

// servers are the running ones, by the directory of their script.
var servers sync.Map // of *daemon

// restartServer kills the server and starts another one in its place.
func restartServer(ts *testscript.TestScript, _ bool, args []string) {
	last, ok := servers.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("no server runs")
	}
	last.(*daemon).kill(ts)
	_, port, err := net.SplitHostPort(ts.Getenv("BUILDER_REMOTE"))
	ts.Check(err)
	startServerAt(ts, port, args)
}

func startServerAt(ts *testscript.TestScript, port string, args []string) {
	args = append([]string{"--port", port, "--dir", ts.MkAbs("data"), "--config-dir", ts.MkAbs("templates")}, args...)
	listening := make(chan string, 1)
	servers.Store(ts.Getenv("WORK"), start(ts, "builder-server", args, func(line []byte) {
		var entry struct{ Message, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Message == "listening" {
			listening <- entry.Address
		}
	}))
	select {
	case address := <-listening:
		ts.Setenv("BUILDER_REMOTE", address)
	case <-time.After(time.Minute):
		ts.Fatalf("the server does not listen")
	}
}

// startWorker runs a persistent worker: worker PLATFORM.
func startWorker(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: worker PLATFORM")
	}
	dir := ts.MkAbs("worker-" + args[0])
	workers.Store(dir, start(ts, "builder-worker",
		[]string{"--persistent", "--remote", ts.Getenv("BUILDER_REMOTE"), "--dir", dir, args[0]}, func([]byte) {}))
}

// workers are the running ones, by their directory.
var workers sync.Map // of *daemon

// replaceWorker kills a worker and starts another one in its place: replace PLATFORM.
func replaceWorker(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: replace PLATFORM")
	}
	last, ok := workers.Load(ts.MkAbs("worker-" + args[0]))
	if !ok {
		ts.Fatalf("no worker of platform %s runs", args[0])
	}
	last.(*daemon).kill(ts)
	startWorker(ts, neg, args)
}

// daemon is a program that runs beside a script.
type daemon struct {
	process *os.Process
	gone    chan struct{} // closed when it has ended
}

// kill ends it at once.
func (d *daemon) kill(ts *testscript.TestScript) {
	ts.Check(d.process.Kill())
	<-d.gone
}

// start runs a program to the end of the script. What it logs is shown by each,
// and kept for when the script fails.
func start(ts *testscript.TestScript, program string, args []string, each func([]byte)) *daemon {
	path, err := exec.LookPath(program)
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.MkAbs(".")
	log, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	d := &daemon{cmd.Process, make(chan struct{})}
	var all strings.Builder
	go func() {
		defer close(d.gone)
		for lines := bufio.NewScanner(io.TeeReader(log, &all)); lines.Scan(); {
			each(lines.Bytes())
		}
		cmd.Wait()
	}()
	ts.Defer(func() {
		for range 2 { // the second makes a worker give up its build
			cmd.Process.Signal(syscall.SIGTERM)
		}
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		<-d.gone
		ts.Logf("[%s]\n%s", program, all.String())
		kill.Stop()
	})
	return d
}

// capture sets a variable to a field of the first build that the client prints
// as JSON: capture NAME FIELD COMMAND..., of builds or info.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: capture NAME FIELD COMMAND...")
	}
	out, err := clientCommand(ts, args[2:]).Output()
	ts.Check(err)
	var status struct{ Building []map[string]any }
	list := &status.Building
	if out[0] == '[' {
		err = json.Unmarshal(out, list)
	} else {
		err = json.Unmarshal(out, &status)
	}
	ts.Check(err)
	if len(*list) == 0 {
		ts.Fatalf("no build in %s", out)
	}
	ts.Setenv(args[0], fmt.Sprint((*list)[0][args[1]]))
}

// until runs the client again and again, until its output has the text: until TEXT
// COMMAND...
func until(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until TEXT COMMAND...")
	}
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ts.Check(ts.Exec("builder-client", args[1:]...))
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Since(begin) > time.Minute {
			ts.Fatalf("no %q in what it prints", args[0])
		}
	}
}

// interrupt runs the client, interrupts it when it has printed the text, and
// wants the exit status that a shell gives then: interrupt TEXT COMMAND... What
// it printed is left in the file interrupted.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: interrupt TEXT COMMAND...")
	}
	cmd := clientCommand(ts, args[1:])
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	cmd.Stderr = cmd.Stdout
	ts.Check(cmd.Start())
	kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	var printed strings.Builder
	for lines, found := bufio.NewScanner(io.TeeReader(out, &printed)), false; lines.Scan(); {
		if !found && strings.Contains(lines.Text(), args[0]) {
			found = true
			ts.Check(cmd.Process.Signal(os.Interrupt))
		}
	}
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 130 {
		ts.Fatalf("exit status %d, want 130: %s", status, printed.String())
	}
	ts.Check(os.WriteFile(ts.MkAbs("interrupted"), []byte(printed.String()), 0o644))
}

func clientCommand(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath("builder-client")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "TZ=UTC", "BUILDER_REMOTE="+ts.Getenv("BUILDER_REMOTE"))
	return cmd
}
