package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// bounded is a Plain with an account, on a machine that can bound that.
func bounded(t *testing.T, res job.Resources) *sandbox.Plain {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make control groups here")
	}
	p, _, _ := fenced{"accounts", true}.new(t, 1)
	if err := p.Enforces(res); err != nil {
		missing(t, "%v", err)
	}
	return p
}

// greedy is a script that wants more memory than it gets.
const greedy = `x=$(head -c 200000000 /dev/zero | tr "\\0" x)`

func TestMemoryLimit(t *testing.T) {
	tests := []struct {
		name, script string
		memory       int64
		exhausted    bool
		killed       bool
	}{
		{"within", `echo fine`, 64 << 20, false, false},
		{"the script", greedy, 32 << 20, true, true},
		{"a child only", "sh -c '" + greedy + "'; exit 0", 32 << 20, true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			res := job.Resources{Memory: test.memory}
			p := bounded(t, res)
			exit, _ := runFenced(t, p, sandbox.Spec{Script: []byte(test.script), Resources: res})
			if exit.OutOfMemory != test.exhausted || (exit.Signal != 0) != test.killed {
				t.Errorf("exit %+v", exit)
			}
			if left := cgroupsOf(t); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}

func TestCPULimit(t *testing.T) {
	res := job.Resources{CPUs: 500}
	p := bounded(t, res)
	_, console := runFenced(t, p, sandbox.Spec{Build: "77777777-2222-3333-4444-555555555555", Resources: res, Script: []byte(`
		group=$(grep -E "^[0-9]+:([a-z,]*,)?cpu(,[a-z]*)?:|^0::" /proc/self/cgroup | grep /builder- | cut -d: -f3)
		echo "${group##*/}"
		cat /sys/fs/cgroup$group/cpu.max /sys/fs/cgroup/cpu$group/cpu.cfs_quota_us 2>/dev/null`)})
	name, quota, _ := strings.Cut(console, "\n")
	if want := "builder-" + workerID + "-77777777-2222-3333-4444-555555555555"; name != want {
		t.Errorf("control group %q, want %q", name, want)
	}
	if quota != "50000\n" && quota != "50000 100000\n" {
		t.Errorf("quota %q", quota)
	}
}

// TestFencePIDs: a fork bomb is an ordinary build that fails.
func TestFencePIDs(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, fence := f.new(t, 1)
		res := job.Resources{PIDs: 30}
		if !f.accounts {
			if err := p.Enforces(res); !errors.Is(err, sandbox.ErrUnenforced) {
				t.Errorf("enforces: %v", err)
			}
			return
		}
		place := prepare(t, p, sandbox.Spec{Resources: res, Grace: 50 * time.Millisecond, Script: []byte("bomb() { bomb | bomb & bomb; }; echo; bomb 2>/dev/null")})
		ctx, cancel := context.WithCancel(t.Context())
		printed := make(consoleSignal, 1)
		most := make(chan int, 1)
		go func() {
			<-printed
			seen := 0
			for range 50 {
				seen = max(seen, len(ownedBy(t, fence.Accounts[0].UID)))
			}
			cancel()
			most <- seen
		}()
		if _, err := place.Run(ctx, printed); err != nil {
			t.Error(err)
		}
		if n := <-most; n > 30+16 {
			t.Errorf("%d processes at once", n)
		}
		if left := ownedBy(t, fence.Accounts[0].UID); len(left) > 0 {
			t.Errorf("alive: %v", left)
		}
	})
}

func TestFenceEnforces(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, _ := f.new(t, 1)
		for _, res := range []job.Resources{{}, {NoNetwork: true}} {
			if err := p.Enforces(res); err != nil {
				t.Errorf("%v: %v", res, err)
			}
		}
		refused := []job.Resources{{Disk: 1 << 30}}
		if f.name != "accounts" {
			refused = append(refused, job.Resources{CPUs: 1000}, job.Resources{Memory: 1 << 30})
		}
		for _, res := range refused {
			err := p.Enforces(res)
			if what, _, _ := strings.Cut(res.String(), " "); !errors.Is(err, sandbox.ErrUnenforced) || !strings.Contains(fmt.Sprint(err), what) {
				t.Errorf("%v: %v", res, err)
			}
			if _, err := p.Prepare(t.Context(), sandbox.Spec{Resources: res}); !errors.Is(err, sandbox.ErrUnenforced) {
				t.Errorf("%v: preparing: %v", res, err)
			}
		}
	})
}

func TestFenceRefusesAccounts(t *testing.T) {
	if a, err := sandbox.LookupAccount("root"); err == nil {
		t.Errorf("root: %+v", a)
	}
	if a, err := sandbox.LookupAccount("no-such-account"); err == nil {
		t.Errorf("none: %+v", a)
	}
	a, err := sandbox.LookupAccount("games")
	if err != nil {
		missing(t, "%v", err)
	}
	if _, err := sandbox.NewFenced(t.TempDir(), 1, sandbox.Fence{Accounts: []sandbox.Account{a, a}}); err == nil {
		t.Error("one account twice was not refused")
	}
}

// cgroupsOf lists the control groups of this test's worker.
func cgroupsOf(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("find", "/sys/fs/cgroup", "-name", "builder-"+workerID+"-*").CombinedOutput()
	if err != nil {
		t.Logf("%v", err) // others' groups come and go
	}
	return string(out)
}

// machine is what a build could leave behind.
func machine(t testing.TB, fence sandbox.Fence) map[string]string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mounts := 0
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], os.TempDir()+"/builder-test-") || strings.HasPrefix(fields[3], "/tmp/builder-test-") {
			mounts++ // of a build of this package's tests
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{
		"cgroups": cgroupsOf(t), "mounts": fmt.Sprint(mounts),
		"descriptors": fmt.Sprint(len(fds)), "children": fmt.Sprint(len(slices.DeleteFunc(children(t, os.Getpid()), func(pid int) bool { return !alive(pid) }))),
	}
	for _, a := range fence.Accounts {
		m[a.Name] = fmt.Sprint(ownedBy(t, a.UID))
	}
	return m
}

// TestFenceLeaks: many builds in a row leave nothing.
func TestFenceLeaks(t *testing.T) {
	builds := 20
	if os.Getenv("BUILDER_NO_SKIP") != "" {
		builds = 200
	}
	eachFence(t, func(t *testing.T, f fenced) {
		p, root, fence := f.new(t, 1)
		res := job.Resources{NoNetwork: true}
		if f.name == "accounts" && p.Enforces(job.Resources{Memory: 1 << 28}) == nil {
			res.Memory = 1 << 28
		}
		var before map[string]string
		if f.name == "sudo" {
			builds /= 5 // there is more of it to start, and nothing else
		}
		for i := range builds {
			runFenced(t, p, sandbox.Spec{Build: fmt.Sprintf("%08d", i), Resources: res, Script: []byte("(setsid sleep 1000 &); echo >a; touch /tmp/b /dev/shm/c")})
			if i == 0 {
				before = machine(t, fence)
			}
		}
		if diff := cmp.Diff(before, machine(t, fence)); diff != "" {
			t.Error(diff)
		}
		left, err := os.ReadDir(root)
		if err != nil || len(left) > 1 { // the spare one
			t.Errorf("left: %v (%v)", left, err)
		}
	})
}

// beFencedWorker is a worker process that stops in some phase of a build, and tells
// that in a file.
func beFencedWorker(dir, phase string) error {
	fence := sandbox.Fence{Worker: os.Getenv("SANDBOX_TEST_ID")}
	if name := os.Getenv("SANDBOX_TEST_ACCOUNT"); name != "" {
		a, err := sandbox.LookupAccount(name)
		if err != nil {
			return err
		}
		fence.Accounts = append(fence.Accounts, a)
	}
	p, err := sandbox.NewFenced(filepath.Join(dir, "builds"), 1, fence)
	if err != nil {
		return err
	}
	spec := sandbox.Spec{Build: "99999999-2222-3333-4444-555555555555", Script: []byte(stubborn + "echo; wait"), Env: []string{os.Getenv("SANDBOX_TEST_MARK")}}
	if res := (job.Resources{Memory: 1 << 28}); p.Enforces(res) == nil {
		spec.Resources = res
	}
	if phase == "ended" {
		spec.Script = []byte("mkdir -p a/b; echo >a/b/c; chmod 0 a/b")
	}
	place, err := p.Prepare(context.Background(), spec)
	if err != nil {
		return err
	}
	reached := func([]byte) (int, error) {
		return 1, os.WriteFile(filepath.Join(dir, "reached"), []byte(place.Name()), 0o644)
	}
	switch phase {
	case "running":
		_, err = place.Run(context.Background(), writerFunc(reached))
	case "ended":
		_, err = place.Run(context.Background(), io.Discard)
	}
	if err != nil {
		return err
	}
	if _, err := reached(nil); err != nil {
		return err
	}
	return unix.Pause() // until it is killed
}

// TestFenceWorkerKilled kills a worker with -9 in each phase. What Sweep leaves is
// what was there before.
func TestFenceWorkerKilled(t *testing.T) {
	for _, phase := range []string{"prepared", "running", "ended"} {
		t.Run(phase, func(t *testing.T) {
			eachFence(t, func(t *testing.T, f fenced) {
				root := placeRoot(t)
				fence := sandbox.Fence{Worker: workerID}
				if f.accounts {
					fence.Accounts = []sandbox.Account{account(t)}
				}
				before := machine(t, fence)
				killWorker(t, fence, filepath.Dir(root), phase)
				p, err := sandbox.NewFenced(root, 0, fence)
				if err != nil {
					t.Fatal(err)
				}
				if phase == "ended" { // what it left can be delivered
					name := readFile(t, filepath.Dir(root), "reached")
					place, err := p.Reattach(name)
					if err != nil {
						t.Fatal(err)
					}
					if f.accounts || os.Geteuid() == 0 {
						artifacts, notes, err := place.Artifacts(nil)
						if err != nil || len(artifacts) != 1 {
							t.Errorf("artifacts %v, notes %v, error %v", artifacts, notes, err)
						}
					}
					if err := place.Destroy(); err != nil {
						t.Error(err)
					}
				}
				if err := p.Sweep(); err != nil {
					t.Error(err)
				}
				if err := p.Sweep(); err != nil {
					t.Errorf("again: %v", err)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(before, machine(t, fence)); diff != "" {
					t.Error(diff)
				}
				if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
					t.Errorf("left in the root: %v (%v)", left, err)
				}
			})
		})
	}
}

// killWorker starts a worker, kills it in that phase of a build, and sees the build die.
func killWorker(t *testing.T, fence sandbox.Fence, dir, phase string) {
	t.Helper()
	mark := "MARK=" + dir
	worker := exec.Command("/proc/self/exe")
	worker.Env = append(os.Environ(), "SANDBOX_TEST_WORKER="+dir, "SANDBOX_TEST_PHASE="+phase,
		"SANDBOX_TEST_ID="+fence.Worker, "SANDBOX_TEST_MARK="+mark)
	if len(fence.Accounts) > 0 {
		worker.Env = append(worker.Env, "SANDBOX_TEST_ACCOUNT="+fence.Accounts[0].Name)
	}
	worker.Stderr = os.Stderr
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	defer worker.Wait()
	defer worker.Process.Kill()
	wait(t, "the build is "+phase, func() bool { return readFile(t, dir, "reached") != "" })
	supervisors := children(t, worker.Process.Pid)
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the build dies", func() bool { return len(marked(t, mark)) == 0 })
	for _, pid := range supervisors {
		wait(t, "its supervisor ends", func() bool { return !alive(pid) })
	}
}
