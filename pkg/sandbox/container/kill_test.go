//go:build linux

package container_test

import (
	"bytes"
	stdcontext "context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// traces are all that the places of a worker leave on this machine while they are there.
func traces(t testing.TB, d *daemon, dir, id string) []string {
	t.Helper()
	found, err := made(d.Socket(), "")
	if err != nil {
		t.Fatal(err)
	}
	note := func(format string, arguments ...any) { found = append(found, fmt.Sprintf(format, arguments...)) }
	groups, err := filepath.Glob("/sys/fs/cgroup/*/builder-" + id[:8] + "-*")
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, groups...)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for mount := range strings.Lines(string(mounts)) {
		if strings.Contains(mount, dir) || strings.Contains(mount, d.Dir()) {
			found = append(found, mount)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		note("directory %s", entry.Name())
	}
	for _, pid := range processes(t, d.Dir()) {
		note("process %s", pid)
	}
	slices.Sort(found)
	return found
}

// processes are the shims of a daemon.
func processes(t testing.TB, mark string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(mark)) && bytes.Contains(line, []byte("shim")) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// settled waits until containerd has done in the background what it was asked for.
func settled(t testing.TB, want []string, d *daemon, dir, id string) {
	t.Helper()
	var diff string
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		if diff = cmp.Diff(want, traces(t, d, dir, id)); diff == "" {
			return
		}
	}
	t.Error(diff)
}

// beWorker is a worker that has a build and waits to be killed.
func beWorker() error {
	conf := container.Config{
		Socket: os.Getenv("CONTAINER_TEST_SOCKET"), Dir: os.Getenv("CONTAINER_TEST_DIR"), Worker: os.Getenv("CONTAINER_TEST_WORKER"),
		Images: map[string]string{"": "busybox"}, Pull: container.PullNever, Warm: 1,
	}
	s, err := container.Open(context(), conf)
	if err != nil {
		return err
	}
	place, err := s.Prepare(context(), sandbox.Spec{
		Build: "the-build", Script: []byte(os.Getenv("CONTAINER_TEST_SCRIPT")), Resources: job.Resources{Disk: 1 << 20},
	})
	if err != nil {
		return err
	}
	if _, err := place.Run(context(), os.Stdout); err != nil {
		return err
	}
	fmt.Println("ended")
	select {}
}

// killWorker kills a worker whose build has printed something.
func killWorker(t *testing.T, d *daemon, dir, id, script string) {
	t.Helper()
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), "CONTAINER_TEST_SOCKET="+d.Socket(),
		"CONTAINER_TEST_DIR="+dir, "CONTAINER_TEST_WORKER="+id, "CONTAINER_TEST_SCRIPT="+script)
	worker.Stderr = os.Stderr
	out, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Errorf("the worker ended: %v", err)
	}
	worker.Process.Kill()
	worker.Wait()
}

// TestWorkerKilled: builds outlive their worker. The next one goes on with them, or
// sweeps them, and a warm place and a tmpfs as well.
func TestWorkerKilled(t *testing.T) {
	const script = "echo first; until [ -e go ]; do sleep 0.01; done; echo second; echo >a; exit 9"
	tests := map[string]struct {
		script  string
		before  func(t *testing.T, d *daemon, work string) // before it is resumed
		stopped bool
		swept   bool
		want    sandbox.Exit
		console string
	}{
		"runs on":               {script: script, want: sandbox.Exit{Code: 9}, console: "second\n"},
		"ends meanwhile":        {script: script, before: letEnd, want: sandbox.Exit{Code: 9}, console: "second\n"},
		"and so was the daemon": {script: script, before: restartDaemon, want: sandbox.Exit{Code: 9}, console: "second\n"},
		"is stopped":            {script: "exec 2>/dev/null; trap 'exit 5' TERM; echo; while :; do sleep 0.01; done", stopped: true, want: sandbox.Exit{Code: 5}},
		"is swept":              {script: "trap '' TERM; (setsid sleep 1000 &); echo; sleep 1000", swept: true},
		"was over, and swept":   {script: "(setsid sleep 1000 &) ; echo", swept: true},
	}
	each(t, func(t *testing.T, d *daemon) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "builds")
				var id string
				s := open(t, d, func(c *container.Config) { c.Dir, id = dir, c.Worker })
				before := traces(t, d, dir, id)
				killWorker(t, d, dir, id, test.script)
				if err := open(t, d, nil).Sweep(); err != nil { // another worker's leftovers are none of its
					t.Error(err)
				}
				if !test.swept {
					resume(t, s, filepath.Join(leftover(t, s), "work"), func(work string) {
						if test.before != nil {
							test.before(t, d, work)
						}
					}, test.stopped, test.want, test.console)
				}
				if err := s.Sweep(); err != nil {
					t.Error(err)
				}
				settled(t, before, d, dir, id)
			})
		}
	})
}

// letEnd waits until the script has ended.
func letEnd(t *testing.T, _ *daemon, work string) {
	if err := os.WriteFile(filepath.Join(work, "out", "go"), nil, 0o600); err != nil {
		t.Error(err)
	}
	for !bytes.HasSuffix(read(filepath.Join(work, "exit")), []byte("9\n")) {
		time.Sleep(10 * time.Millisecond)
	}
}

func restartDaemon(t *testing.T, d *daemon, _ string) {
	d.Kill()
	if err := d.Run(); err != nil {
		t.Error(err)
	}
}

// resume goes on with the build of a killed worker.
func resume(t *testing.T, s *container.Sandbox, work string, before func(work string), stopped bool, want sandbox.Exit, console string) {
	t.Helper()
	before(work)
	place, err := s.Reattach(filepath.Base(filepath.Dir(work)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := place.Run(t.Context(), os.Stderr); err == nil {
		t.Error("it runs again")
	}
	ctx, stop := stdcontext.WithCancel(t.Context())
	defer stop()
	if stopped {
		stop()
	} else if err := os.WriteFile(filepath.Join(work, "out", "go"), nil, 0o600); err != nil {
		t.Error(err)
	}
	resumer := place.(sandbox.Resumer)
	if since := time.Since(resumer.Begun()); since < 0 || since > time.Minute {
		t.Errorf("begun %v ago", since)
	}
	var printed bytes.Buffer
	exit, err := resumer.Resume(ctx, sandbox.Spec{Grace: 20 * time.Second}, &printed)
	exit.Cause = nil
	if diff := cmp.Diff(want, exit, ignoreTimes); diff != "" || err != nil || printed.String() != console {
		t.Errorf("console %q, error %v, %s", printed.String(), err, diff)
	}
	if artifacts, _, err := place.Artifacts(nil); err != nil || !stopped && len(artifacts) != 2 || !strings.HasPrefix(place.Origin(), "docker.io/library/busybox:latest@sha256:") {
		t.Errorf("artifacts %v of %s, error %v", artifacts, place.Origin(), err)
	}
	if err := place.Destroy(); err != nil {
		t.Error(err)
	}
}

// TestNothingToResume: a script that was not begun, or of which nothing is known.
func TestNothingToResume(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := open(t, d, nil)
		place := prepare(t, s, sandbox.Spec{Script: []byte("true")})
		again, err := s.Reattach(place.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{"not begun", "halted"} {
			if _, err := again.(sandbox.Resumer).Resume(t.Context(), sandbox.Spec{}, os.Stderr); !errors.Is(err, sandbox.ErrOver) {
				t.Errorf("%s: error %v", state, err)
			}
			if artifacts, _, err := again.Artifacts(nil); err != nil || len(artifacts) != 0 {
				t.Errorf("%s: artifacts %v, error %v", state, artifacts, err)
			}
		}
	})
}

// leftover is the one directory of a place.
func leftover(t *testing.T, s *container.Sandbox) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(container.Dir(s), "builder-*-the-build"))
	if err != nil || len(found) != 1 {
		t.Fatalf("places %v, error %v", found, err)
	}
	return found[0]
}

// TestDaemonKilled kills containerd while a build runs, which neither the build nor
// its console notice.
func TestDaemonKilled(t *testing.T) {
	tests := map[string]struct{ script string }{
		"the build outlives it": {"echo first; until [ -e go ]; do sleep 0.01; done; echo second; exit 9"},
		"the build ends before": {"echo first; sleep 0.3; echo second; exit 9"},
	}
	each(t, func(t *testing.T, d *daemon) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "builds")
				var id string
				s := open(t, d, func(c *container.Config) { c.Dir, id = dir, c.Worker })
				before := traces(t, d, dir, id)
				place, err := s.Prepare(t.Context(), sandbox.Spec{Build: "the-build", Script: []byte(test.script)})
				if err != nil {
					t.Fatal(err)
				}
				begun, over := make(printed, 1), make(chan struct{})
				var console bytes.Buffer
				var restarted error
				go func() {
					defer close(over)
					<-begun
					d.Kill()
					if strings.Contains(name, "ends before") {
						for !bytes.HasSuffix(read(filepath.Join(leftover(t, s), "work", "exit")), []byte("9\n")) {
							time.Sleep(10 * time.Millisecond)
						}
					}
					restarted = d.Run()
					os.WriteFile(filepath.Join(leftover(t, s), "work", "out", "go"), nil, 0o600)
				}()
				exit, err := place.Run(t.Context(), tee{&console, begun})
				<-over
				if err != nil || restarted != nil || exit.Code != 9 || console.String() != "first\nsecond\n" {
					t.Errorf("exit %+v, console %q, errors %v, %v", exit, console.String(), err, restarted)
				}
				if err := place.Destroy(); err != nil {
					t.Error(err)
				}
				settled(t, before, d, dir, id)
			})
		}
	})
}

func read(name string) []byte {
	text, _ := os.ReadFile(name)
	return text
}

type tee struct {
	*bytes.Buffer
	printed
}

func (w tee) Write(p []byte) (int, error) {
	w.printed.Write(p)
	return w.Buffer.Write(p)
}

// TestDestroyFails: what could not be destroyed since containerd was away is swept.
func TestDestroyFails(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := filepath.Join(t.TempDir(), "builds")
		var id string
		s := open(t, d, func(c *container.Config) { c.Dir, id = dir, c.Worker })
		before := traces(t, d, dir, id)
		place, err := s.Prepare(t.Context(), sandbox.Spec{Build: "the-build", Script: []byte("true"), Resources: job.Resources{Disk: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		d.Kill()
		if err := place.Destroy(); err == nil {
			t.Error("it was destroyed without containerd")
		}
		if err := d.Run(); err != nil {
			t.Fatal(err)
		}
		for begin := time.Now(); s.Sweep() != nil; time.Sleep(50 * time.Millisecond) { // until it is connected again
			if time.Since(begin) > 10*time.Second {
				t.Fatal(s.Sweep())
			}
		}
		settled(t, before, d, dir, id)
	})
}

// TestWarm: builds in places made ahead, and such for which none fits; nothing is left.
func TestWarm(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir, id := filepath.Join(t.TempDir(), "builds"), uuid.NewString()
		conf := container.Config{
			Socket: d.Socket(), Dir: dir, Worker: id, Images: map[string]string{"": "busybox"}, Pull: container.PullNever, Warm: 1,
		}
		before := traces(t, d, dir, id)
		s, err := container.Open(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		warm := 0
		for i, resources := range []job.Resources{{}, {}, {Disk: 1 << 20}, {}, {}} {
			place, err := s.Prepare(t.Context(), sandbox.Spec{Build: fmt.Sprint("build-", i), Job: fmt.Sprint(i), Resources: resources, Script: []byte("echo $BUILDER_JOB")})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(place.Name(), "-warm-") {
				warm++
			}
			var console bytes.Buffer
			exit, err := place.Run(t.Context(), &console)
			if err != nil || exit.Code != 0 || console.String() != fmt.Sprintln(i) {
				t.Errorf("exit %+v, error %v, console %q", exit, err, console.String())
			}
			if err := place.Destroy(); err != nil {
				t.Error(err)
			}
		}
		if warm == 0 {
			t.Error("no build got a place that was made ahead")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		settled(t, before, d, dir, id)
	})
}
