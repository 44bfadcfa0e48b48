package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// workerID is that of the tests' workers, each process its own.
var workerID = fmt.Sprintf("t%07d", os.Getpid())

// missing skips a test for want of something, unless nothing may be skipped.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("BUILDER_NO_SKIP") != "" {
		t.Fatalf("missing: "+format, args...)
	}
	t.Skipf(format, args...)
}

// fenced is a kind of fence that this user can have.
type fenced struct {
	name     string
	accounts bool
}

func (f fenced) new(t testing.TB, slots int) (*sandbox.Plain, string, sandbox.Fence) {
	t.Helper()
	root := placeRoot(t)
	fence := sandbox.Fence{Worker: workerID}
	if f.accounts {
		for range slots {
			fence.Accounts = append(fence.Accounts, account(t))
		}
	}
	p, err := sandbox.NewFenced(root, slots, fence)
	if err != nil {
		t.Fatal(err)
	}
	closes(t, p, root)
	return p, root, fence
}

// placeRoot is a directory for places that other accounts can get to.
func placeRoot(t testing.TB) string {
	t.Helper()
	base := "" // which an ordinary user is told
	if os.Geteuid() == 0 {
		base = "/run" // not below /tmp, which a build has an own one of
	}
	dir, err := os.MkdirTemp(base, "builder-test-") //nolint:usetesting // others can not get to that of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sandbox.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "builds")
}

// raceDetector says that this binary has it.
var raceDetector bool

// ordinary says that this process is the one of TestFenceOfOrdinaryUser.
const ordinary = "SANDBOX_TEST_ORDINARY"

// spareAccounts are those that every Debian has and no test runs anything as.
var spareAccounts = []string{"games", "news", "uucp", "list", "irc"}

// account is one that no other test uses.
func account(t testing.TB) sandbox.Account {
	t.Helper()
	for _, name := range spareAccounts {
		if _, err := user.Lookup(name); err != nil {
			continue
		}
		file := "/tmp/builder-test-account-" + name
		lock, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			lock, err = os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			lock.Close()
			continue
		}
		t.Cleanup(func() { lock.Close() })
		a, err := sandbox.LookupAccount(name)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	missing(t, "no account is free of %v", spareAccounts)
	return sandbox.Account{}
}

// eachFence runs a test with every kind of fence.
func eachFence(t *testing.T, test func(t *testing.T, f fenced)) {
	kinds := []fenced{{"namespaces", false}}
	switch {
	case os.Geteuid() == 0:
		kinds = append(kinds, fenced{"accounts", true})
	case os.Getenv(ordinary) != "":
		kinds = append(kinds, fenced{"sudo", true})
	}
	for _, f := range kinds {
		t.Run(f.name, func(t *testing.T) {
			if err := sandbox.TryNamespaces(); err != nil {
				missing(t, "namespaces can not be made: %v", err)
			}
			test(t, f)
		})
	}
}

// runFenced runs a script, and gives back all of it.
func runFenced(t testing.TB, p *sandbox.Plain, spec sandbox.Spec) (sandbox.Exit, string) {
	t.Helper()
	if spec.Build == "" {
		spec.Build = "11111111-2222-3333-4444-555555555555"
	}
	place := prepare(t, p, spec)
	exit, console, err := runIn(t.Context(), place)
	if err != nil {
		t.Fatalf("running: %v", err)
	}
	if err := place.Destroy(); err != nil {
		t.Fatalf("destroying: %v", err)
	}
	return exit, console
}

func TestFenceExit(t *testing.T) {
	tests := []struct {
		name, script string
		want         sandbox.Exit
		console      string
	}{
		{"success", "echo hello", sandbox.Exit{}, "hello\n"},
		{"status", "exit 3", sandbox.Exit{Code: 3}, ""},
		{"signal", "kill -KILL $$", sandbox.Exit{Signal: syscall.SIGKILL}, ""},
		{"no interpreter", "#!/no/such\n", sandbox.Exit{Code: 127}, "builder: executing the interpreter \"/no/such\" of the script: no such file or directory\n"},
		{"it can not kill its supervisor", "for s in KILL STOP TERM; do kill -$s $PPID 2>/dev/null; done; echo $PPID", sandbox.Exit{}, "1\n"},
		{"umask", "umask", sandbox.Exit{}, "0022\n"},
		{"place", `test "$(pwd)" = "$BUILDER_OUTPUT" && ls -A . "$HOME" && echo >"$HOME/a" && echo >"$TMPDIR/b" && ls /var/tmp/b`, sandbox.Exit{}, ""},
		{"leaves processes", conform.Stubborn + "exit 4", sandbox.Exit{Code: 4}, ""},
		{"no capability to mount", "mount -t tmpfs none /mnt 2>/dev/null || echo no; umount -l $(dirname $(dirname $BUILDER_OUTPUT)) 2>/dev/null || echo no", sandbox.Exit{}, "no\nno\n"},
	}
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, _ := f.new(t, 1)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				exit, console := runFenced(t, p, sandbox.Spec{Script: []byte(test.script)})
				if exit.Code != test.want.Code || exit.Signal != test.want.Signal || exit.Cause != nil {
					t.Errorf("exit %+v", exit)
				}
				if test.console != "" {
					if diff := cmp.Diff(test.console, console); diff != "" {
						t.Error(diff)
					}
				}
			})
		}
	})
}

// TestFenceIdentity: who the script is, and what of its own it can do nothing about.
func TestFenceIdentity(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, fence := f.new(t, 1)
		want, kind := os.Geteuid(), "none"
		if f.accounts {
			want, kind = int(fence.Accounts[0].UID), "user"
		}
		_, console := runFenced(t, p, sandbox.Spec{Script: []byte("id -ru; id -u")})
		if diff := cmp.Diff(fmt.Sprintf("%d\n%d\n", want, want), console); diff != "" {
			t.Error(diff)
		}
		if p.Kind() != kind {
			t.Errorf("kind %s", p.Kind())
		}
	})
}

// TestFenceHides: two builds at once see neither each other's places nor each other's
// temporary files, nor the machine's.
func TestFenceHides(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, root, _ := f.new(t, 2)
		outside := filepath.Join("/tmp", "builder-test-"+strconv.Itoa(os.Getpid()))
		if err := os.WriteFile(outside, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(outside)
		other := prepare(t, p, sandbox.Spec{Script: []byte("echo secret >secret; chmod -R 777 . $HOME $TMPDIR /tmp; touch /tmp/mine /dev/shm/mine; echo; sleep 1000"), Grace: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		printed := make(consoleSignal, 1)
		ended := make(chan error, 1)
		go func() {
			_, err := other.Run(ctx, printed)
			ended <- err
		}()
		<-printed
		script := fmt.Sprintf(`ls -A %s; cat %s/%s/out/secret; for f in /tmp/mine /var/tmp/mine /dev/shm/mine %s; do test -e $f && echo "$f is there"; done; ps -e >/dev/null 2>&1; ls -d /proc/[0-9]* | wc -l; echo mine >/tmp/yours`,
			root, root, other.Name(), outside)
		_, console := runFenced(t, p, sandbox.Spec{Script: []byte(script)})
		for _, bad := range []string{other.Name() + "\n", "is there", "\nsecret\n"} {
			if strings.Contains("\n"+console, bad) {
				t.Errorf("%q is in %s", bad, console)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/tmp/yours"); err == nil {
			t.Error("a file of the build's /tmp is in the machine's")
		}
	})
}

// ownedBy are the processes of a user, without those that are dead.
func ownedBy(t testing.TB, uid uint32) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err == nil && bytes.Contains(status, fmt.Appendf(nil, "\nUid:\t%d\t", uid)) && !bytes.Contains(status, []byte("State:\tZ")) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			found = append(found, pid)
		}
	}
	return found
}

func TestFenceCancel(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, fence := f.new(t, 1)
		spec, mark := markedSpec(t, conform.Stubborn+"echo; wait")
		place := prepare(t, p, spec)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cause := errors.New("cancelled")
		exit, err := place.Run(ctx, conform.AtOutput(func() { cancel(cause) }))
		if err != nil || exit.Signal != syscall.SIGKILL || !errors.Is(exit.Cause, cause) {
			t.Errorf("exit %+v, error %v", exit, err)
		}
		if left := marked(t, mark); len(left) > 0 {
			t.Errorf("alive: %v", left)
		}
		for _, a := range fence.Accounts {
			if left := ownedBy(t, a.UID); len(left) > 0 {
				t.Errorf("alive of %s: %v", a.Name, left)
			}
		}
	})
}

// TestFenceNoNetwork: nothing but lo, which is up, and no way back.
func TestFenceNoNetwork(t *testing.T) {
	const script = `sed -n 's/^ *\([^ ]*\):.*/\1/p' /proc/net/dev; grep -q 127.0.0.1 /proc/net/fib_trie && echo up; nsenter -t 1 -n true 2>/dev/null && echo out`
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, _ := f.new(t, 1)
		res := job.Resources{NoNetwork: true}
		if err := p.Enforces(res); err != nil {
			t.Fatal(err)
		}
		_, console := runFenced(t, p, sandbox.Spec{Script: []byte(script), Resources: res})
		if diff := cmp.Diff("lo\nup\n", console); diff != "" {
			t.Error(diff)
		}
	})
}

// TestFenceGivesBack: all that the build left is the worker's.
func TestFenceGivesBack(t *testing.T) {
	const script = `mkdir -p a/b; echo deep >a/b/c; chmod 000 a/b/c a/b a; echo set >s; chmod 6755 s; ln -s /etc/passwd link; mkfifo fifo
		mkdir "$HOME/.cache"; echo >"$HOME/.cache/x"; chmod 0 "$HOME/.cache" .`
	eachFence(t, func(t *testing.T, f fenced) {
		p, root, _ := f.new(t, 1)
		place := prepare(t, p, sandbox.Spec{Script: []byte(script)})
		if _, _, err := runIn(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		if f.accounts {
			checkOwners(t, f, filepath.Join(root, place.Name()))
		}
		if !f.accounts && os.Geteuid() != 0 {
			return // the modes are its own user's choice
		}
		artifacts, notes, err := place.Artifacts(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range artifacts {
			file, err := a.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(file)
			file.Close()
			got = append(got, fmt.Sprintf("%s %q %v", a.Path, data, err))
		}
		for _, n := range notes {
			got = append(got, n.Path+" "+n.Text)
		}
		want := []string{`a/b/c "deep\n" <nil>`, `s "set\n" <nil>`, "fifo named pipe", "link symbolic link, not followed"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// checkOwners: nothing in the place can be changed by the account any more, or at
// least the worker can change all of it.
func checkOwners(t *testing.T, f fenced, dir string) {
	t.Helper()
	if info, err := os.Stat("/etc/passwd"); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("/etc/passwd: %v %v", info, err)
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); f.name == "accounts" && uid != os.Geteuid() {
			t.Errorf("%s is owned by %d", path, uid)
		}
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 && f.name == "accounts" {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFenceForeignLink: a hard link to somebody else's file gives nothing away.
func TestFenceForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	p, root, _ := fenced{"accounts", true}.new(t, 1)
	victim := filepath.Join(filepath.Dir(root), "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(victim, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	place := prepare(t, p, sandbox.Spec{Script: []byte("true")})
	if err := os.Link(victim, filepath.Join(root, place.Name(), "out", "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(victim); err != nil || info.Sys().(*syscall.Stat_t).Uid != 12345 {
		t.Errorf("owner of the other file: %+v %v", info.Sys(), err)
	}
}

// TestFenceKillsDaemons: a process of the account that is not in the build's tree, as
// cron starts them, is gone when the build is over.
func TestFenceKillsDaemons(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of accounts beside a build")
	}
	p, _, fence := fenced{"accounts", true}.new(t, 1)
	place := prepare(t, p, sandbox.Spec{Script: []byte("true")})
	daemon := exec.Command("setsid", "sh", "-c", "trap '' TERM; sleep 1000 & wait")
	daemon.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: fence.Accounts[0].UID, Gid: fence.Accounts[0].GID}}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the daemon runs", func() bool { return len(ownedBy(t, fence.Accounts[0].UID)) >= 2 })
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Error(err)
	}
	if left := ownedBy(t, fence.Accounts[0].UID); len(left) > 0 {
		t.Errorf("alive: %v", left)
	}
	if err := daemon.Wait(); err == nil {
		t.Error("the daemon ended by itself")
	}
}
