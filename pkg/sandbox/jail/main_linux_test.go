package jail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/jail"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be what it tests: a supervisor, a worker that is
// killed, and the commands of FreeBSD that a jail is made with.
func TestMain(m *testing.M) {
	var err error
	switch name := filepath.Base(os.Args[0]); {
	case sandbox.IsSupervisor():
		err = sandbox.Supervise()
	case standIns[name] != nil:
		err = beCommand(name)
	case os.Getenv(killVariable) != "":
		err = beWorker()
	default:
		code := m.Run()
		if err := pool.end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	if err != nil {
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

// machine is a machine with stand-ins for FreeBSD's commands, and real ZFS.
type machine struct {
	t    testing.TB
	host host // what the stand-ins know
	conf jail.Config
}

// newMachine makes one for a test. What the test leaves of it is a failure.
func newMachine(t testing.TB) *machine {
	t.Helper()
	snapshot := pool.snapshot(t)
	top := t.TempDir()
	m := &machine{t: t, host: host(filepath.Join(top, "bin"))}
	m.host.make(t)
	t.Setenv("PATH", string(m.host)+":"+os.Getenv("PATH"))
	resolv := filepath.Join(top, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.conf = jail.Config{
		Dir: filepath.Join(top, "builds"), Worker: uuid.NewString(), Snapshot: snapshot, Resolv: resolv,
	}
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
	out, err := jail.Run(context.Background(), "zfs", "list", "-H", "-o", "name", "-t", "all")
	if err != nil {
		m.t.Error(err)
	}
	for dataset := range strings.Lines(out) {
		if strings.Contains(dataset, m.conf.Worker[:8]) {
			found = append(found, "dataset "+strings.TrimSpace(dataset))
		}
	}
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
	for _, kind := range []string{"jails", "rules", "interfaces", "addresses"} {
		for line := range strings.Lines(m.host.read(kind)) {
			if !strings.Contains(line, "always") {
				found = append(found, kind+" "+strings.TrimSpace(line))
			}
		}
	}
	wait(m.t, "the processes in jails end", func() bool { return len(inside(m.conf.Dir)) == 0 })
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

// zpool is the pool of all tests, on a file.
type zpool struct {
	once   sync.Once
	failed error
	dir    string
	name   string
	daemon *exec.Cmd // nil if the machine runs one
	lock   *os.File
}

var pool zpool

// snapshot is that of a small system: a busybox, a user.
func (z *zpool) snapshot(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root, as jails do")
	}
	for _, command := range []string{"zfs-fuse", "zfs", "zpool", "busybox"} {
		if _, err := exec.LookPath(command); err != nil {
			skip(t, fmt.Sprintf("needs Debian's zfs-fuse and busybox-static: %v", err))
		}
	}
	z.once.Do(func() { z.failed = z.begin() })
	if z.failed != nil {
		t.Fatal(z.failed)
	}
	return z.name + "/jails/base@clean"
}

func (z *zpool) begin() (err error) {
	// There is one daemon for a machine: it is not to be killed under another test.
	if z.lock, err = os.OpenFile(filepath.Join(os.TempDir(), "builder-zfs-test.lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(z.lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if z.dir, err = os.MkdirTemp("", "jail-test-"); err != nil {
		return err
	}
	if _, err := jail.Run(ctx, "zpool", "list"); err != nil {
		z.daemon = exec.Command("zfs-fuse", "--no-daemon", "--no-kstat-mount", "-p", filepath.Join(z.dir, "pid"))
		if err := z.daemon.Start(); err != nil {
			return err
		}
	}
	for _, err := jail.Run(ctx, "zpool", "list"); err != nil; _, err = jail.Run(ctx, "zpool", "list") {
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for zfs-fuse: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	z.name = "jailtest" + uuid.NewString()[:8]
	file := filepath.Join(z.dir, "disk")
	base := filepath.Join(z.dir, "base")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(file, 512<<20); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"zpool", "create", "-o", "cachefile=none", "-m", "none", z.name, file},
		{"zfs", "create", z.name + "/jails"},
		{"zfs", "create", "-o", "mountpoint=" + base, z.name + "/jails/base"},
	} {
		if _, err := jail.Run(ctx, argv...); err != nil {
			return err
		}
	}
	if err := furnish(base); err != nil {
		return err
	}
	_, err = jail.Run(ctx, "zfs", "snapshot", z.name+"/jails/base@clean")
	return err
}

// furnish makes a small system.
func furnish(root string) error {
	for _, dir := range []string{"bin", "etc", "dev", "tmp", "root"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
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
	for _, name := range strings.Fields("sh cat ls id mkdir sleep env ip dd rm ln mkfifo touch setsid chmod kill hostname seq sort") {
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

func (z *zpool) end() error {
	var failures []error
	if z.name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := jail.Run(ctx, "zpool", "destroy", "-f", z.name)
		for ; err != nil && ctx.Err() == nil; _, err = jail.Run(ctx, "zpool", "destroy", "-f", z.name) {
			time.Sleep(100 * time.Millisecond) // what was just unmounted is busy for a while
		}
		failures = append(failures, err)
	}
	if z.daemon != nil {
		failures = append(failures, z.daemon.Process.Kill()) // it has nothing any more that could be lost
		z.daemon.Process.Wait()
	}
	if z.dir != "" {
		failures = append(failures, os.RemoveAll(z.dir))
	}
	return errors.Join(failures...)
}
