//go:build linux

package container_test

import (
	"bytes"
	stdcontext "context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/container"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
)

func context() stdcontext.Context { return stdcontext.Background() }

// open makes a sandbox on a daemon, as a worker with an id of its own.
func open(t testing.TB, d *daemon, change func(*container.Config)) *container.Sandbox {
	t.Helper()
	conf := container.Config{
		Socket: d.Socket(), Dir: filepath.Join(t.TempDir(), "builds"), Worker: uuid.NewString(),
		Images: map[string]string{"": "busybox"}, Pull: container.PullNever,
	}
	if change != nil {
		change(&conf)
	}
	s, err := container.Open(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func prepare(t testing.TB, s sandbox.Sandbox, spec sandbox.Spec) sandbox.Place {
	t.Helper()
	if spec.Build == "" {
		spec.Build = uuid.NewString()
	}
	place, err := s.Prepare(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := place.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return place
}

func run(t testing.TB, s sandbox.Sandbox, spec sandbox.Spec) (sandbox.Exit, string) {
	t.Helper()
	var console bytes.Buffer
	exit, err := prepare(t, s, spec).Run(t.Context(), &console)
	if err != nil {
		t.Errorf("running: %v", err)
	}
	return exit, console.String()
}

var ignoreTimes = cmpopts.IgnoreFields(sandbox.Exit{}, "Start", "Duration")

// TestExit: what the first process tells of the script, which depends on the shell. The
// rest is in the conformance suite.
func TestExit(t *testing.T) {
	tests := map[string]struct {
		script string
		want   sandbox.Exit
	}{
		"KILL":                {"kill -KILL $$", sandbox.Exit{Signal: syscall.SIGKILL}},
		"TERM":                {"kill -TERM $$", sandbox.Exit{Signal: syscall.SIGTERM}},
		"INT":                 {"kill -INT $$", sandbox.Exit{Signal: syscall.SIGINT}},
		"status like KILL":    {"exit 137", sandbox.Exit{Code: 137}},
		"missing interpreter": {"#!/nowhere/sh\n", sandbox.Exit{Code: 127}},
		"on a full disk":      {"dd if=/dev/zero of=a bs=64k 2>/dev/null; exit 137", sandbox.Exit{Code: 137}},
		"first process":       {"kill -KILL 1; (setsid sleep 1000 &); exit 3", sandbox.Exit{Code: 3}},
	}
	each(t, func(t *testing.T, d *daemon) {
		for _, image := range shells(d) {
			s := open(t, d, func(c *container.Config) { c.Images[""] = image })
			for name, test := range tests {
				t.Run(image+"/"+name, func(t *testing.T) {
					exit, console := run(t, s, sandbox.Spec{Script: []byte(test.script), Resources: job.Resources{Disk: 4 << 20}})
					if diff := cmp.Diff(test.want, exit, ignoreTimes); diff != "" {
						t.Errorf("%s\nconsole %q", diff, console)
					}
				})
			}
		}
	})
}

// shells are the images that are tested: all with one daemon.
func shells(d *daemon) []string {
	if d == daemons[0] {
		return []string{"busybox", "dash", "bash"}
	}
	return []string{"busybox"}
}

// TestOrphansAreReaped: nothing that the script leaves behind stays as a zombie.
func TestOrphansAreReaped(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for _, image := range shells(d) {
			s := open(t, d, func(c *container.Config) { c.Images[""] = image })
			_, console := run(t, s, sandbox.Spec{Script: []byte(`for i in 1 2 3 4 5 6 7 8 9; do (true &); done
				sleep 0.2; cat /proc/[0-9]*/stat | grep -c ' Z '`)})
			if console != "0\n" {
				t.Errorf("%s: zombies: %q", image, console)
			}
		}
	})
}

func TestEnvironment(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := open(t, d, nil)
		_, console := run(t, s, sandbox.Spec{
			Build: "11111111-2222", Job: "it's", Platform: "debian", Env: []string{"A=b c", "HOME=/mine"},
			Script: []byte(`env | sort; pwd; umask; id -u; cat; ls -A $HOME $TMPDIR $BUILDER_OUTPUT; hostname; grep -E 'NoNewPrivs|CapEff|CapBnd|Seccomp:' /proc/self/status`),
		})
		want := `A=b c
BUILDER_BUILD=11111111-2222
BUILDER_JOB=it's
BUILDER_OUTPUT=/builder/out
BUILDER_PLATFORM=debian
FROM_IMAGE=yes
HOME=/builder/home
LANG=C.UTF-8
PATH=/bin
PWD=/builder/out
SHLVL=1
TMPDIR=/builder/tmp
TZ=UTC
/builder/out
0022
0
/builder/home:

/builder/out:

/builder/tmp:
builder
CapEff:	0000000000000000
CapBnd:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
`
		if diff := cmp.Diff(want, strings.Replace(console, "SHLVL=2", "SHLVL=1", 1)); diff != "" {
			t.Error(diff)
		}
	})
}

// printed is a writer that tells when the build has printed something.
type printed chan struct{}

func (c printed) Write(p []byte) (int, error) {
	select {
	case c <- struct{}{}:
	default:
	}
	return len(p), nil
}

// TestShellGone: a build that can not be told to end by its own shell is killed.
func TestShellGone(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		place := prepare(t, open(t, d, nil), sandbox.Spec{
			Script: []byte("trap '' TERM; rm /bin/sh; echo; while :; do sleep 0.01; done"), Grace: 100 * time.Millisecond,
		})
		ctx, cancel := stdcontext.WithCancel(t.Context())
		defer cancel()
		exit, err := place.Run(ctx, conform.AtOutput(cancel))
		if err != nil || exit.Signal != syscall.SIGKILL || exit.Cause == nil {
			t.Errorf("exit %+v, error %v", exit, err)
		}
	})
}

// TestKeep: what the build did to its whole file system is there for people.
func TestKeep(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := open(t, d, func(c *container.Config) { c.User = "1000" })
		place := prepare(t, s, sandbox.Spec{Script: []byte("echo left >/tmp/mine; rmdir $BUILDER_OUTPUT; exit 1"), Job: "it's"})
		if _, err := place.Run(t.Context(), io.Discard); err != nil {
			t.Fatal(err)
		}
		if _, _, err := place.Artifacts(nil); err != nil {
			t.Error(err)
		}
		again, err := s.Reattach(place.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []sandbox.Place{place, again, place} {
			how, err := p.Keep()
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "sh", "-c", how+` -c 'cat /tmp/mine; echo "$BUILDER_JOB"; pwd; id -u; exit 3'`).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 3 || string(out) != "left\nit's\n/builder/out\n1000\n" {
				t.Errorf("%q, error %v", out, err)
			}
		}
	})
}

func TestArtifacts(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for name, resources := range map[string]job.Resources{"directory": {}, "tmpfs": {Disk: 8 << 20}} {
			t.Run(name, func(t *testing.T) {
				s := open(t, d, func(c *container.Config) { c.User = "1000:100" })
				place := prepare(t, s, sandbox.Spec{Resources: resources, Script: []byte(
					`id -u; mkdir bin; echo content >bin/a; chmod 700 bin; ln -s /etc/passwd link; mkfifo pipe; echo x >.hidden; echo y >$TMPDIR/t; cat /tmp/t; rm /tmp/t; touch /etc/no 2>/dev/null || echo no`)})
				var console bytes.Buffer
				if _, err := place.Run(t.Context(), &console); err != nil || console.String() != "1000\ny\nno\n" {
					t.Errorf("console %q, error %v", console.String(), err)
				}
				artifacts, notes, err := place.Artifacts(nil)
				var paths []string
				for _, a := range artifacts {
					paths = append(paths, a.Path)
				}
				for _, n := range notes {
					paths = append(paths, n.Path+": "+n.Text)
				}
				want := []string{".hidden", "bin/a", "link: symbolic link, not followed", "pipe: named pipe"}
				if diff := cmp.Diff(want, paths); diff != "" || err != nil {
					t.Errorf("error %v, %s", err, diff)
				}
				to := filepath.Join(filepath.Dir(t.TempDir()), "salvaged")
				if err := place.Salvage(to); err != nil {
					t.Error(err)
				}
				if found, err := filepath.Glob(to + "/bin/a"); err != nil || len(found) != 1 {
					t.Errorf("salvaged %v, error %v", found, err)
				}
			})
		}
	})
}

// TestFresh: a build sees nothing of the one before, nor of one beside it.
func TestFresh(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := open(t, d, nil)
		first := prepare(t, s, sandbox.Spec{Script: []byte("touch /a /etc/a /tmp/a $HOME/a /var/tmp/a /dev/shm/a /run/a; echo; sleep 1000"), Grace: time.Millisecond})
		ctx, cancel := stdcontext.WithCancel(t.Context())
		begun, over := make(printed, 1), make(chan struct{})
		go func() {
			defer close(over)
			first.Run(ctx, begun)
		}()
		<-begun
		const look = "find / -xdev -name a; find /builder /dev /run -name a; ls /builder; ps | grep '[s]leep 1000'"
		_, beside := run(t, s, sandbox.Spec{Script: []byte(look)})
		cancel()
		<-over
		_, after := run(t, s, sandbox.Spec{Script: []byte(look)})
		const want = "control\nexit\nhome\nout\ntmp\n"
		if beside != want || after != want {
			t.Errorf("beside it %q, after it %q", beside, after)
		}
	})
}
