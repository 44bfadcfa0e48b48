package jail_test

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

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/jail"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestMain lets the test binary be what it tests: a supervisor, a worker that is
// killed, and the commands of FreeBSD that a jail is made with.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case standIns[name] != nil:
		conform.Exit(beCommand(name))
	case os.Getenv(killVariable) != "" && !sandbox.IsSupervisor():
		conform.Exit(beWorker())
	}
	conform.Main(m, kind)
	if err := pool.end(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// skip ends a test for want of something, unless that is forbidden.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("BUILDER_NO_SKIP") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// machine is a machine with stand-ins for FreeBSD's commands.
type machine struct {
	t    testing.TB
	host host // what the stand-ins know
	conf jail.Config
}

// newMachine makes one for a test. What the test leaves of it is a failure.
func newMachine(t testing.TB) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root, as jails do")
	}
	m := bareMachine(t)
	if err := furnish(filepath.Join(string(m.host), "base")); err != nil {
		t.Fatal(err)
	}
	m.conf.Snapshot, m.conf.Run = standInSnapshot, m.host.call
	return m
}

// bareMachine is one that lacks what jails are made of.
func bareMachine(t testing.TB, real ...string) *machine {
	t.Helper()
	if _, err := exec.LookPath("busybox"); err != nil {
		skip(t, fmt.Sprintf("needs Debian's busybox-static: %v", err))
	}
	top := t.TempDir()
	m := &machine{t: t, host: host(filepath.Join(top, "bin"))}
	m.host.make(t, real...)
	resolv := filepath.Join(top, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.conf = jail.Config{Dir: filepath.Join(top, "builds"), Worker: uuid.NewString(), Resolv: resolv}
	t.Cleanup(func() {
		if diff := cmp.Diff([]string(nil), m.look()); diff != "" {
			t.Errorf("left behind (-want +got):\n%s", diff)
		}
		if told := m.host.read("complaints"); told != "" {
			t.Errorf("the stand-ins complain:\n%s", told)
		}
	})
	return m
}

// open makes the sandbox of m.
func (m *machine) open() *jail.Sandbox {
	m.t.Helper()
	s, err := jail.New(m.t.Context(), m.conf)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			m.t.Error(err)
		}
	})
	return s
}

// look lists all that the machine has for builds.
func (m *machine) look() (found []string) {
	m.t.Helper()
	wait(m.t, "the processes in jails end", func() bool { return len(inside(m.conf.Dir)) == 0 })
	found = m.host.has(m.conf.Worker)
	entries, err := os.ReadDir(m.conf.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Error(err)
	}
	for _, entry := range entries {
		found = append(found, "directory "+entry.Name())
	}
	for _, mount := range mountpoints() {
		if strings.HasPrefix(mount.at, m.conf.Dir) {
			found = append(found, "mount "+mount.at)
		}
	}
	slices.Sort(found)
	return found
}

// spec is that of a new build.
func spec(script string) sandbox.Spec {
	return sandbox.Spec{Build: uuid.NewString(), Job: "one", Platform: "freebsd", Script: []byte(script), Grace: time.Second}
}

func prepare(t testing.TB, s *jail.Sandbox, spec sandbox.Spec) sandbox.Place {
	t.Helper()
	p, err := s.Prepare(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// run runs a script in a jail of its own, which must not be an error.
func run(t testing.TB, s *jail.Sandbox, spec sandbox.Spec) (sandbox.Exit, string, sandbox.Place) {
	t.Helper()
	p := prepare(t, s, spec)
	var console bytes.Buffer
	exit, err := p.Run(t.Context(), &console)
	if err != nil {
		t.Fatalf("%v\n%s", err, &console)
	}
	return exit, console.String(), p
}

func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited in vain: %s", what)
			return
		}
	}
}

// furnish makes a small system.
func furnish(root string) error {
	for _, dir := range []string{"bin", "etc", "dev", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	program, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), binary, 0o755); err != nil {
		return err
	}
	for _, name := range strings.Fields(`basename cat chmod cut dd dirname env grep head hostname id ip kill ln ls mkdir
		mkfifo mknod nohup rm seq setsid sh sleep sort tail tee touch tr truncate yes`) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return err
		}
	}
	passwd := "root:*:0:0:Charlie:/root:/bin/sh\nnobody:*:65534:65534:Unprivileged:/nonexistent:/usr/sbin/nologin\n"
	// As some systems have it: a link that leads somewhere on the host.
	return errors.Join(
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644),
		os.Symlink("/run/resolv.conf", filepath.Join(root, "etc/resolv.conf")),
	)
}
