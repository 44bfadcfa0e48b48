package conform

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// exit is how scripts end, and what they print meanwhile.
func (s *suite) exit(t *testing.T) {
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
		{"status of a signal", "exit 137", sandbox.Exit{Code: 137}, ""},
		{"interpreter", "#!/bin/cat\nhello\n", sandbox.Exit{}, "#!/bin/cat\nhello\n"},
		{"interpreter with argument", "#!/bin/sh -e\nfalse\necho not reached\n", sandbox.Exit{Code: 1}, ""},
		{"comment is no interpreter", "# !/bin/nope\necho sh", sandbox.Exit{}, "sh\n"},
		{"stdin is empty", "cat; echo end", sandbox.Exit{}, "end\n"},
		{"both outputs in order", "for i in 1 2 3; do echo o$i; echo e$i >&2; done", sandbox.Exit{}, "o1\ne1\no2\ne2\no3\ne3\n"},
		{"no newline at the end", "printf a; printf b >&2", sandbox.Exit{}, "ab"},
		{"any octets", `printf '\000\377\376\r\n\033'`, sandbox.Exit{}, "\x00\xff\xfe\r\n\x1b"},
		{"closes its outputs and goes on", "echo a; exec >/dev/null 2>&1; sleep 0.1; exit 4", sandbox.Exit{Code: 4}, "a\n"},
		{"umask", "umask", sandbox.Exit{}, "0022\n"},
		{"works in its output directory", `test "$(pwd)" = "$BUILDER_OUTPUT" && ls -A`, sandbox.Exit{}, ""},
		{"home and temporary directory are empty", `ls -A "$HOME" "$TMPDIR" | grep -v :`, sandbox.Exit{}, "\n"},
		{"home and temporary directory can be written", `: >"$HOME/a" && : >"$TMPDIR/a" && : >/tmp/a.$$ && rm /tmp/a.$$`, sandbox.Exit{}, ""},
	}
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			exit, console := s.run(t, test.script)
			if exit.Start.IsZero() {
				t.Error("no start time")
			}
			ignore := cmpopts.IgnoreFields(sandbox.Exit{}, "Start", "Duration")
			if diff := cmp.Diff(test.want, exit, ignore); diff != "" {
				t.Error(diff)
			}
			equal(t, "console", test.console, console)
		})
	}
	for name, test := range map[string]struct {
		script string
		code   int
	}{
		"interpreter is missing":     {"#!/no/such/thing -x\n", 127},
		"interpreter is a directory": {"#!/\n", 126},
		"interpreter from Windows":   {"#!/bin/sh\r\necho\r\n", 127},
		"nothing named after the #!": {"#!\necho\n", 126},
	} {
		s.test(t, name, func(t *testing.T) {
			exit, console := s.run(t, test.script)
			if exit.Code != test.code || exit.Signal != 0 || !strings.HasPrefix(console, "builder: executing ") {
				t.Errorf("exit %+v, console %q", exit, console)
			}
		})
	}
}

// environment is what a script gets to see of the worker's, which is nothing.
func (s *suite) environment(t *testing.T) {
	t.Setenv("SECRET", "of the worker")
	what, _ := spec(`set -eu; printf '%s|' "$BUILDER_JOB" "$BUILDER_BUILD" "$BUILDER_PLATFORM" "$LANG" "$TZ" "$X" "$EMPTY" "${SECRET-none}"
		[ -n "$PATH" ]; [ -d "$HOME" ]; [ -d "$TMPDIR" ]; [ "$HOME" != /root ]`)
	what.Job, what.Platform = "a job", "a platform"
	what.Env = append(what.Env, "X=a=b\nc\xff", "TZ=Europe/Berlin", "HOME=/root", "BUILDER_JOB=forged", "EMPTY=")
	exit, console, err := runIn(t.Context(), s.prepare(t, what))
	if err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, error %v", exit, err)
	}
	equal(t, "variables", "a job|"+what.Build+"|a platform|C.UTF-8|Europe/Berlin|a=b\nc\xff||none|", console)
}

// refused is what no place is made for.
func (s *suite) refused(t *testing.T) {
	before := s.look(t, s.site)
	for name, variable := range map[string]string{"no value": "KEY", "no name": "=x", "NUL": "A=\x00"} {
		s.test(t, name, func(t *testing.T) {
			what, _ := spec("true")
			what.Env = []string{variable}
			place, err := s.box.Prepare(t.Context(), what)
			if err == nil {
				t.Errorf("%q was taken", variable)
				err = place.Destroy()
				t.Log(err)
			}
		})
	}
	s.settle(t, s.site, before)
}

func (s *suite) usedOnce(t *testing.T) {
	what, _ := spec("true")
	place := s.prepare(t, what)
	if _, _, err := runIn(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runIn(t.Context(), place); err == nil {
		t.Error("it ran a second time")
	}
}

// console is that everything comes that is printed, or the build is stopped.
func (s *suite) console(t *testing.T) {
	s.test(t, "one long line", func(t *testing.T) {
		const size = 10 << 20
		_, console := s.run(t, fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size))
		if sha256.Sum256([]byte(console)) != sha256.Sum256(bytes.Repeat([]byte("x"), size)) {
			t.Errorf("%d octets came, or others", len(console))
		}
	})
	s.test(t, "whole", func(t *testing.T) { // a burst right before the end
		for range 10 {
			if _, console := s.run(t, "head -c 60000 /dev/zero; echo end"); len(console) != 60004 {
				t.Fatalf("%d octets came", len(console))
			}
		}
	})
	s.test(t, "can not be written", func(t *testing.T) {
		full := errors.New("disk full")
		what, mark := spec("yes")
		exit, err := s.prepare(t, what).Run(t.Context(), brokenWriter{full})
		if !errors.Is(err, full) || !errors.Is(exit.Cause, full) {
			t.Errorf("exit %+v, error %v", exit, err)
		}
		dead(t, mark)
	})
	s.test(t, "at once", func(t *testing.T) { // builds beside each other
		texts := []string{"one", "two"}
		var stops []func() sandbox.Exit
		for i, text := range texts {
			what, _ := spec("echo " + text + "; while :; do sleep 100; done")
			printed, stop := s.started(t, what)
			equal(t, "console", text+"\n", printed)
			stops = slices.Insert(stops, i, stop)
		}
		for _, stop := range stops {
			if exit := stop(); exit.Signal != syscall.SIGTERM {
				t.Errorf("exit %+v", exit)
			}
		}
	})
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
