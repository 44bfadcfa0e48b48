package jail_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/jail"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// TestZFS has builds use the real commands of ZFS, which Debian's zfs-fuse has; and all
// stand-ins are commands that are found in PATH, as FreeBSD's are. zfs-fuse is old and
// frail, so it is not killed at every step, as the stand-in is.
func TestZFS(t *testing.T) {
	snapshot := pool.snapshot(t)
	m := bareMachine(t, "zfs")
	m.conf.Snapshot, m.conf.Run = snapshot, bounded
	guid, err := bounded(t.Context(), "zfs", "get", "-H", "-p", "-o", "value", "guid", snapshot)
	if err != nil {
		t.Fatal(err)
	}
	what := spec("echo kept >file; dd if=/dev/zero of=big bs=1024 count=20480 2>/dev/null && exit 3; id -u")
	what.Resources = everything
	exit, console, p := run(t, m.open(), what)
	if exit.Code != 0 || console != "65534\n" {
		t.Errorf("the quota is not kept: exit %+v, console %q", exit, console)
	}
	if want := snapshot + " guid " + strings.TrimSpace(guid); p.Origin() != want {
		t.Errorf("origin %q, want %q", p.Origin(), want)
	}

	// As after a boot: it is there, and not mounted.
	if _, err := bounded(t.Context(), "zfs", "unmount", "-f", strings.TrimSuffix(snapshot, "/base@clean")+"/"+p.Name()); err != nil {
		t.Fatal(err)
	}
	next := m.open()
	var again sandbox.Place
	wait(t, "zfs-fuse goes on unmounting when its command has ended", func() bool {
		again, err = next.Reattach(p.Name())
		return err == nil || !strings.Contains(err.Error(), "is busy")
	})
	if err != nil {
		t.Fatal(err)
	}
	artifacts, _, err := again.Artifacts(nil)
	if err != nil || len(artifacts) != 2 || artifacts[0].Size > everything.Disk || artifacts[1].Path != "file" {
		t.Errorf("artifacts %v, %v", artifacts, err)
	}
	if err := errors.Join(again.Destroy(), p.Destroy()); err != nil {
		t.Error(err)
	}
	if err := build(next); err != nil {
		t.Error(err)
	}
	m.conf.Worker = uuid.NewString()
	if err := m.open().Sweep(); err != nil {
		t.Error(err)
	}
	left, err := bounded(t.Context(), "zfs", "list", "-H", "-o", "name", "-t", "all")
	if err != nil || strings.Contains(left, "builder-") {
		t.Errorf("left behind: %s, %v", left, err)
	}
}

// bounded is jail.Run, for commands that may hang.
func bounded(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("it hangs"))
	defer cancel()
	return jail.Run(ctx, argv...)
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

// snapshot is that of a small system.
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := z.alone(ctx); err != nil {
		return err
	}
	if z.dir, err = os.MkdirTemp("", "jail-test-"); err != nil {
		return err
	}
	if err := z.serve(ctx); err != nil {
		return err
	}
	z.name = "jailtest" + uuid.NewString()[:8]
	file := filepath.Join(z.dir, "disk")
	base := filepath.Join(z.dir, "base")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 256<<20)); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"zpool", "create", "-o", "cachefile=none", "-m", "none", z.name, file},
		{"zfs", "create", z.name + "/jails"},
		{"zfs", "create", "-o", "mountpoint=" + base, z.name + "/jails/base"},
	} {
		if _, err := bounded(ctx, argv...); err != nil {
			return err
		}
	}
	if err := furnish(base); err != nil {
		return err
	}
	_, err = bounded(ctx, "zfs", "snapshot", z.name+"/jails/base@clean")
	return err
}

// alone waits until no other test of this machine uses the daemon: there is one, and it
// is not to be killed under another test.
func (z *zpool) alone(ctx context.Context) (err error) {
	name := filepath.Join(os.TempDir(), "builder-zfs-test.lock")
	if z.lock, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	for {
		err := unix.Flock(int(z.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if err := pause(ctx, "for other tests that use zfs-fuse"); err != nil {
			return err
		}
	}
}

// serve starts the daemon, unless the machine runs one.
func (z *zpool) serve(ctx context.Context) error {
	if _, err := bounded(ctx, "zpool", "list"); err == nil {
		return nil
	}
	z.daemon = exec.Command("zfs-fuse", "--no-daemon", "--no-kstat-mount", "-p", filepath.Join(z.dir, "pid"))
	z.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := z.daemon.Start(); err != nil {
		return err
	}
	for {
		if _, err := bounded(ctx, "zpool", "list"); err == nil {
			return nil
		}
		if err := pause(ctx, "for zfs-fuse"); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, what string) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting %s: %w", what, context.Cause(ctx))
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// end destroys the pool and ends the daemon.
func (z *zpool) end() error {
	var failures []error
	if z.name != "" && z.failed == nil {
		failures = append(failures, z.destroy())
	}
	if z.daemon != nil {
		failures = append(failures, z.daemon.Process.Kill()) // it has nothing any more that could be lost
		z.daemon.Wait()
	}
	if z.dir == "" {
		return errors.Join(failures...)
	}
	for _, m := range mountpoints() { // if destroying has failed
		if strings.HasPrefix(m.at, z.dir+"/") {
			failures = append(failures, unix.Unmount(m.at, unix.MNT_DETACH))
		}
	}
	return errors.Join(append(failures, os.RemoveAll(z.dir))...)
}

// destroy tries again while what was just unmounted is busy.
func (z *zpool) destroy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := bounded(ctx, "zpool", "destroy", "-f", z.name)
		if err == nil || pause(ctx, "for zpool") != nil {
			return err
		}
	}
}
