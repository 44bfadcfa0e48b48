package sandbox_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestExit is what is particular of a plain process.
func TestExit(t *testing.T) {
	tests := []struct {
		name    string
		script  string
		want    sandbox.Exit
		console string
	}{
		{"interpreter by env", "#!/usr/bin/env sh\necho $0 | sed 's|.*/||'", sandbox.Exit{}, "script\n"},
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
