//go:build linux

package container_test

import (
	"bytes"
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
)

// traces are all that places leave on this machine while they are there.
func traces(t testing.TB, d *daemon, dir string) []string {
	t.Helper()
	found, err := made(d.socket(), "")
	if err != nil {
		t.Fatal(err)
	}
	note := func(format string, arguments ...any) { found = append(found, fmt.Sprintf(format, arguments...)) }
	groups, err := filepath.Glob("/sys/fs/cgroup/*/builder-*")
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, groups...)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for mount := range strings.Lines(string(mounts)) {
		if strings.Contains(mount, "builder-") || strings.Contains(mount, d.dir) {
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
	for _, pid := range processes(t, d.dir) {
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
func settled(t testing.TB, want []string, d *daemon, dir string) {
	t.Helper()
	var diff string
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		if diff = cmp.Diff(want, traces(t, d, dir)); diff == "" {
			return
		}
	}
	t.Error(diff)
}

// phases are where a worker is killed that the conformance suite does not know, or
// that has a tmpfs to leave behind.
var phases = []string{"warm", "running", "collected"}

// beWorker is a worker that goes as far as a phase and waits there to be killed.
func beWorker() error {
	phase := os.Getenv("CONTAINER_TEST_PHASE")
	conf := container.Config{
		Socket: os.Getenv("CONTAINER_TEST_SOCKET"), Dir: os.Getenv("CONTAINER_TEST_DIR"), Worker: os.Getenv("CONTAINER_TEST_WORKER"),
		Images: map[string]string{"": "busybox"}, Pull: container.PullNever,
	}
	if phase == "warm" {
		conf.Warm = 2
	}
	s, err := container.Open(context(), conf)
	if err != nil {
		return err
	}
	script := "echo here; (setsid sleep 1000 &); trap '' TERM; sleep 1000"
	if phase != "running" {
		script = "echo x >a"
	}
	place, err := s.Prepare(context(), sandbox.Spec{Build: "the-build", Script: []byte(script), Resources: job.Resources{Disk: 1 << 20}})
	if err != nil {
		return err
	}
	if _, err := place.Run(context(), os.Stdout); err != nil {
		return err
	}
	if phase == "collected" {
		if _, _, err := place.Artifacts(nil); err != nil {
			return err
		}
	}
	fmt.Println("here")
	select {}
}

// TestWorkerKilled kills a worker at each phase. What Sweep leaves is what was
// there before.
func TestWorkerKilled(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for _, phase := range phases {
			t.Run(phase, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "builds")
				var id string
				s := open(t, d, func(c *container.Config) { c.Dir, id = dir, c.Worker })
				before := traces(t, d, dir)
				worker := exec.Command(os.Args[0])
				worker.Env = append(os.Environ(), "CONTAINER_TEST_PHASE="+phase, "CONTAINER_TEST_SOCKET="+d.socket(),
					"CONTAINER_TEST_DIR="+dir, "CONTAINER_TEST_WORKER="+id)
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
				if slices.Equal(before, traces(t, d, dir)) {
					t.Error("the worker has left nothing: nothing is tested")
				}
				// Another worker's leftovers are none of ours.
				if err := open(t, d, nil).Sweep(); err != nil {
					t.Error(err)
				}
				if phase == "collected" || phase == "running" {
					reattach(t, s, phase)
				}
				if err := s.Sweep(); err != nil {
					t.Error(err)
				}
				settled(t, before, d, dir)
			})
		}
	})
}

// reattach takes up the place of a killed worker: it can be collected, and stays
// until it is destroyed.
func reattach(t *testing.T, s *container.Sandbox, phase string) {
	place, err := s.Reattach("builder-" + strings.TrimPrefix(filepath.Base(leftover(t, s)), "builder-"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	artifacts, _, err := place.Artifacts(nil)
	if err != nil || (phase == "collected") != (len(artifacts) == 1) {
		t.Errorf("artifacts %v, error %v", artifacts, err)
	}
	if _, err := place.Run(t.Context(), os.Stderr); err == nil {
		t.Error("it runs again")
	}
	if err := place.Destroy(); err != nil {
		t.Error(err)
	}
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
				s := open(t, d, func(c *container.Config) { c.Dir = dir })
				before := traces(t, d, dir)
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
					d.kill()
					if strings.Contains(name, "ends before") {
						for !bytes.HasSuffix(read(filepath.Join(leftover(t, s), "work", "exit")), []byte("9\n")) {
							time.Sleep(10 * time.Millisecond)
						}
					}
					restarted = d.run()
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
				settled(t, before, d, dir)
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

// TestNothingLeaks: many builds, cold and warm, and nothing is left of them.
func TestNothingLeaks(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := filepath.Join(t.TempDir(), "builds")
		conf := container.Config{
			Socket: d.socket(), Dir: dir, Worker: "leak-test", Images: map[string]string{"": "busybox"}, Pull: container.PullNever, Warm: 1,
		}
		before, descriptors := traces(t, d, dir), len(entries(t, "/proc/self/fd"))
		s, err := container.Open(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 16 {
			spec := sandbox.Spec{Build: fmt.Sprint("build-", i), Job: fmt.Sprint(i), Script: []byte("echo $BUILDER_JOB; (setsid sleep 1000 &); echo >a")}
			if i%8 == 7 {
				spec.Resources = job.Resources{Disk: 1 << 20} // what is warm does not fit
			}
			place, err := s.Prepare(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			var console bytes.Buffer
			exit, err := place.Run(t.Context(), &console)
			if err != nil || exit.Code != 0 || console.String() != fmt.Sprintln(i) {
				t.Errorf("exit %+v, error %v, console %q", exit, err, console.String())
			}
			if artifacts, _, err := place.Artifacts(nil); err != nil || len(artifacts) != 1 {
				t.Error(artifacts, err)
			}
			if err := place.Destroy(); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		settled(t, before, d, dir)
		if now := len(entries(t, "/proc/self/fd")); now > descriptors {
			t.Errorf("%d descriptors before, %d after", descriptors, now)
		}
	})
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
