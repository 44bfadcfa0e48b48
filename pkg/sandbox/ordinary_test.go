package sandbox_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"builder/pkg/sandbox"
)

// TestFenceOfOrdinaryUser repeats these tests as a user who is not root, and what all
// kinds are held to: namespaces by a user namespace, and accounts by sudo.
func TestFenceOfOrdinaryUser(t *testing.T) {
	if os.Getenv(ordinary) != "" {
		t.Skip("this is the repetition")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	if _, err := exec.LookPath("sudo"); err != nil {
		missing(t, "no sudo: %v", err)
	}
	const worker = "backup"
	who, err := sandbox.LookupAccount(worker)
	if err != nil {
		missing(t, "no account %s: %v", worker, err)
	}
	dir := filepath.Dir(placeRoot(t))
	program := filepath.Join(dir, "tests")
	makeTests(t, program)
	rule := fmt.Sprintf("%s ALL=(%s) NOPASSWD: %s\n", worker, strings.Join(spareAccounts, ","), program)
	file := fmt.Sprintf("/etc/sudoers.d/builder-test-%d", os.Getpid())
	if err := os.WriteFile(file, []byte(rule), 0o440); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temp, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^Test(Fence|Namespaces|Accounts)",
		"-test.skip=^TestFence(ForeignLink|KillsDaemons|OfOrdinaryUser)$", // only root can, or this one
		"-test.v", "-test.short", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), ordinary+"=1", "TMPDIR="+temp, "HOME="+temp)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.UID, Gid: who.GID}}
	cmd.WaitDelay = time.Minute // what is left of it may hold its outputs
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("%s", out)
	}
	if err != nil {
		t.Error(err)
	}
	for _, ran := range []string{"--- PASS: TestFenceExit/namespaces", "--- PASS: TestFenceExit/sudo", "--- PASS: TestNamespaces", "--- PASS: TestAccounts"} {
		if !bytes.Contains(out, []byte(ran)) {
			t.Errorf("not among what was tested: %s", ran)
		}
	}
}

// makeTests makes a program of these tests, without the race detector: with it each of
// the many processes takes a second to end.
func makeTests(t *testing.T, program string) {
	t.Helper()
	if raceDetector {
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", build.Args, err, out)
		}
		return
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
}
