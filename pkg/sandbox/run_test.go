package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestExit(t *testing.T) {
	tests := []struct {
		name    string
		script  string
		want    sandbox.Exit
		console string
	}{
		{"success", "true", sandbox.Exit{}, ""},
		{"empty script", "", sandbox.Exit{}, ""},
		{"exit status", "exit 3", sandbox.Exit{Code: 3}, ""},
		{"highest exit status", "exit 255", sandbox.Exit{Code: 255}, ""},
		{"TERM to itself", "kill -TERM $$", sandbox.Exit{Signal: syscall.SIGTERM}, ""},
		{"KILL to itself", "kill -KILL $$", sandbox.Exit{Signal: syscall.SIGKILL}, ""},
		{"core dump", "ulimit -c 0; kill -SEGV $$", sandbox.Exit{Signal: syscall.SIGSEGV}, ""},
		{"interpreter", "#!/bin/cat\nhello\n", sandbox.Exit{}, "#!/bin/cat\nhello\n"},
		{"interpreter with argument", "#!/bin/sh -e\nfalse\necho not reached\n", sandbox.Exit{Code: 1}, ""},
		{"interpreter by env", "#!/usr/bin/env sh\necho $0 | sed 's|.*/||'", sandbox.Exit{}, "script\n"},
		{"comment is no interpreter", "# !/bin/nope\necho sh", sandbox.Exit{}, "sh\n"},
		{
			"interpreter is missing", "#!/no/such/thing -x\n",
			sandbox.Exit{Code: 127},
			"builder: executing the interpreter \"/no/such/thing\" of the script: no such file or directory\n",
		},
		{
			"script from Windows", "#!/bin/sh\r\necho\r\n",
			sandbox.Exit{Code: 127},
			"builder: executing the interpreter \"/bin/sh\\r\" of the script: no such file or directory\n",
		},
		{
			"interpreter is a directory", "#!/\n",
			sandbox.Exit{Code: 126},
			"builder: executing the interpreter \"/\" of the script: permission denied\n",
		},
		{
			"no interpreter behind the mark", "#!\necho\n",
			sandbox.Exit{Code: 126},
			"builder: executing the script: exec format error\n",
		},
		{"stdin is empty", "cat; echo end", sandbox.Exit{}, "end\n"},
		{"both outputs in order", "for i in 1 2 3; do echo o$i; echo e$i >&2; done", sandbox.Exit{}, "o1\ne1\no2\ne2\no3\ne3\n"},
		{"no newline at the end", "printf a; printf b >&2", sandbox.Exit{}, "ab"},
		{"any octets", `printf '\000\377\376\r\n\033'`, sandbox.Exit{}, "\x00\xff\xfe\r\n\x1b"},
		{"closes its outputs and goes on", "echo a; exec >/dev/null 2>&1; sleep 0.1; exit 4", sandbox.Exit{Code: 4}, "a\n"},
		{"umask", "umask", sandbox.Exit{}, "0022\n"},
		{"works in its output directory", `test "$(pwd)" = "$BUILDER_OUTPUT" && ls -A`, sandbox.Exit{}, ""},
		{"home and temporary directory are empty", `ls -A "$HOME" "$TMPDIR" | grep -v :`, sandbox.Exit{}, "\n"},
		{"the script can not be an artifact", `ls -A ..`, sandbox.Exit{}, "home\nout\nscript\ntmp\n"},
		{"has a session of its own", `test "$(cut -d' ' -f6 /proc/$$/stat)" = $$`, sandbox.Exit{}, ""},
		{"no descriptor is handed on", "exec ls /proc/self/fd # 3 is its own", sandbox.Exit{}, "0\n1\n2\n3\n"},
		// Signals 32 and up are left out: glibc's posix_spawn, which make uses, has
		// its own two ignored, and no program can change that.
		{"signals are at their defaults", `sed -nE '/^Sig(Blk|Ign)/s/\t.{8}[08]/ /p' /proc/self/status`, sandbox.Exit{}, "SigBlk: 0000000\nSigIgn: 0000000\n"},
	}
	p := newPlain(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			exit, console := run(t, p, test.script)
			if exit.Start.IsZero() {
				t.Error("no start time")
			}
			ignore := cmpopts.IgnoreFields(sandbox.Exit{}, "Start", "Duration")
			if diff := cmp.Diff(test.want, exit, ignore); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.console, console); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Setenv("SECRET", "of the worker")
	p := newPlain(t)
	place := prepare(t, p, sandbox.Spec{
		Build: "0123456789-uuid", Job: "a job", Platform: "a platform",
		Script: []byte(`tr '\0' '\n' </proc/$$/environ`),
		Env:    []string{"X=a=b\nc\xff", "TZ=Europe/Berlin", "HOME=/root", "BUILDER_JOB=forged", "EMPTY="},
	})
	_, console, err := runIn(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	_, dir, _ := strings.Cut(console, "BUILDER_OUTPUT=")
	dir, _, _ = strings.Cut(dir, "/out\n")
	if !strings.Contains(dir, "/b-01234567-") {
		t.Errorf("directory %q: it should begin with that of the build's uuid", dir)
	}
	want := []string{
		"BUILDER_BUILD=0123456789-uuid", "BUILDER_JOB=a job", "BUILDER_OUTPUT=DIR/out",
		"BUILDER_PLATFORM=a platform", "EMPTY=", "HOME=DIR/home", "LANG=C.UTF-8",
		"PATH=/usr/bin:/bin", "TMPDIR=DIR/tmp", "TZ=Europe/Berlin", "X=a=b", "c\xff",
	}
	got := strings.Split(strings.TrimSuffix(strings.ReplaceAll(console, dir, "DIR"), "\n"), "\n")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPrepareRefuses(t *testing.T) {
	p := newPlain(t)
	for name, variable := range map[string]string{"no value": "KEY", "no name": "=x", "NUL": "A=\x00"} {
		t.Run(name, func(t *testing.T) {
			place, err := p.Prepare(t.Context(), sandbox.Spec{Env: []string{variable}})
			if err == nil {
				t.Errorf("%q was taken", variable)
				place.Destroy()
			}
		})
	}
}

func TestHugeEnvironment(t *testing.T) {
	p := newPlain(t)
	env := []string{"BIG=" + strings.Repeat("x", 1<<20)}
	exit, console, err := runIn(t.Context(), prepare(t, p, sandbox.Spec{Env: env}))
	if err != nil || exit.Code != 126 || !strings.Contains(console, "argument list too long") {
		t.Errorf("one variable too long: %+v, %q, %v", exit, console, err)
	}
	env = []string{"BIG=" + strings.Repeat("x", 100<<10)}
	place := prepare(t, p, sandbox.Spec{Env: env, Script: []byte("echo ${#BIG}")})
	if _, console, err := runIn(t.Context(), place); err != nil || console != "102400\n" {
		t.Errorf("a long variable: %.100q, %v", console, err)
	}
}

func TestConsoleOfOneLongLine(t *testing.T) {
	const size = 10 << 20
	_, console := run(t, newPlain(t), fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size))
	want := sha256.Sum256(bytes.Repeat([]byte("x"), size))
	if len(console) != size || sha256.Sum256([]byte(console)) != want {
		t.Errorf("%d octets came, or others", len(console))
	}
}

// TestConsoleIsWhole has the build end right after a burst of output: everything
// must come, though the end of the pipe is not waited for.
func TestConsoleIsWhole(t *testing.T) {
	p := newPlain(t)
	for range 20 {
		_, console := run(t, p, "head -c 60000 /dev/zero; echo end")
		if len(console) != 60004 {
			t.Fatalf("%d octets came", len(console))
		}
	}
}

// writerFunc is a function as a writer.
type writerFunc func(p []byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// TestConsoleHeldByOthers gives the write end of the console to a process that is
// not of the build (this one), which keeps it: Run must not wait for its end.
func TestConsoleHeldByOthers(t *testing.T) {
	held := filepath.Join(t.TempDir(), "held")
	script := "echo $$; until [ -e " + held + " ]; do sleep 0.01; done; echo end"
	place := prepare(t, newPlain(t), sandbox.Spec{Script: []byte(script)})
	var console bytes.Buffer
	exit, err := place.Run(t.Context(), writerFunc(func(p []byte) (int, error) {
		if console.Len() == 0 {
			pid := pids(t, string(p))[0]
			f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", pid), os.O_WRONLY, 0)
			if err != nil {
				return 0, err
			}
			t.Cleanup(func() { f.Close() })
			if err := os.WriteFile(held, nil, 0o644); err != nil {
				return 0, err
			}
		}
		return console.Write(p)
	}))
	if err != nil || exit.Code != 0 || !strings.HasSuffix(console.String(), "\nend\n") {
		t.Errorf("exit %+v, console %q, error %v", exit, console.String(), err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestConsoleCanNotBeWritten(t *testing.T) {
	p := newPlain(t)
	full := errors.New("disk full")
	place := prepare(t, p, sandbox.Spec{Script: []byte("yes")})
	exit, err := place.Run(t.Context(), brokenWriter{full})
	if !errors.Is(err, full) || !errors.Is(exit.Cause, full) {
		t.Errorf("exit %+v, error %v", exit, err)
	}
	run(t, p, "true") // goes on with the next build
}

func TestPlaceIsUsedOnce(t *testing.T) {
	place := prepare(t, newPlain(t), sandbox.Spec{})
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runIn(t.Context(), place); err == nil {
		t.Error("it ran a second time")
	}
}

func TestCancelBeforeStart(t *testing.T) {
	p := newPlain(t)
	place := prepare(t, p, sandbox.Spec{Script: []byte("echo started")})
	cause := errors.New("cancelled by a person")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	exit, console, err := runIn(ctx, place)
	if diff := cmp.Diff(sandbox.Exit{Cause: cause}, exit, cmpopts.EquateErrors()); diff != "" || console != "" || err != nil {
		t.Errorf("console %q, error %v, exit %s", console, err, diff)
	}
	if _, err := p.Prepare(ctx, sandbox.Spec{}); !errors.Is(err, cause) {
		t.Errorf("preparing: %v", err)
	}
}

// TestNothingLeaks runs many builds, some of which leave processes and files
// behind, and compares descriptors and processes before and after.
func TestNothingLeaks(t *testing.T) {
	p := newPlain(t)
	run(t, p, "true")
	before := census(t)
	for i := range 200 {
		script := "echo x >out.txt; mkdir -p a/b"
		if i%10 == 0 {
			script += "; (setsid sleep 1000 &)"
		}
		place, err := p.Prepare(t.Context(), sandbox.Spec{Script: []byte(script)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := runIn(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		artifacts, _, err := place.Artifacts(nil)
		if err != nil || len(artifacts) != 1 {
			t.Fatal(artifacts, err)
		}
		if err := place.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, census(t)); diff != "" {
		t.Error(diff)
	}
}

// census counts our descriptors and our children. The supervisor, a child, is
// the same before and after.
func census(t *testing.T) (c struct {
	Descriptors int
	Children    []int
},
) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	c.Descriptors = len(fds)
	c.Children = children(t, os.Getpid())
	return c
}
