package hooks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"builder/pkg/hooks"
	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// directory makes a directory of shell scripts.
func directory(t *testing.T, scripts map[string]string) hooks.Dir {
	t.Helper()
	dir := t.TempDir()
	d := hooks.Dir{Path: filepath.Join(dir, "upload-hooks"), Cache: filepath.Join(dir, "cache"), Data: filepath.Join(dir, "data")}
	must(t, os.Mkdir(d.Path, 0o755))
	for name, text := range scripts {
		must(t, os.WriteFile(filepath.Join(d.Path, name), []byte("#!/bin/sh\n"+text), 0o755))
	}
	return d
}

// build is one with these artifacts.
func build(paths ...string) job.Build {
	b := job.Build{
		UUID: uuid.UUID{1, 15: 2}, Job: "hello", Platform: "debian-12", Worker: "pine",
		Started:  time.Date(2026, 3, 4, 6, 6, 7, 5e8, time.FixedZone("", 3600)),
		Finished: time.Date(2026, 3, 4, 5, 6, 9, 0, time.UTC),
		Result:   job.Result{Kind: job.Exited, Code: 3},
	}
	for _, path := range paths {
		b.Artifacts = append(b.Artifacts, job.Artifact{Path: path, Mode: 0o755, Content: job.ContentOf([]byte(path))})
	}
	return b
}

func factsOf(b job.Build) hooks.Facts {
	return hooks.FactsOf(b, func(a job.Artifact) string { return "/content/" + a.String()[:4] })
}

// run runs the hooks and returns their log.
func run(t *testing.T, d hooks.Dir, b job.Build) (string, error) {
	t.Helper()
	var log bytes.Buffer
	err := d.Run(t.Context(), factsOf(b), zerolog.New(&log))
	return log.String(), err
}

const show = `for a; do echo "$a"; done > args; cat > facts; env > env; pwd > cwd`

// TestArguments: what a hook is told, with and without a main binary.
func TestArguments(t *testing.T) {
	common := []string{
		"--build-time=20260304050607", "--job=hello", "--uuid=01000000-0000-0000-0000-000000000002", "--platform=debian-12",
		"--cache-dir=CACHE", "--data-dir=DATA",
	}
	for _, test := range []struct {
		name  string
		paths []string
		want  []string
		main  string
	}{
		{"a main binary", []string{"README.md", "bin/hello"}, append(common, "--sha256=SHA", "--main-binary-filepath=bin/hello", "/content/SHA4"), "bin/hello"},
		{"none", []string{"hello"}, common, ""},
		{"two", []string{"bin/a", "bin/b"}, common, ""},
		{"no artifacts", nil, common, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("SECRET", "hunter2")
			d := directory(t, map[string]string{"hook": show})
			if log, err := run(t, d, build(test.paths...)); err != nil {
				t.Fatalf("%v: %s", err, log)
			}
			read := func(name string) string {
				text, err := os.ReadFile(filepath.Join(d.Cache, name))
				must(t, err)
				return string(text)
			}
			sum := job.ContentOf([]byte("bin/hello")).String()
			want := strings.NewReplacer("CACHE", d.Cache, "DATA", d.Data, "SHA4", sum[:4], "SHA", sum).Replace(strings.Join(test.want, "\n") + "\n")
			if diff := cmp.Diff(want, read("args")); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
			if text := read("env"); strings.Contains(text, "SECRET") || !strings.Contains(text, "PATH=") {
				t.Errorf("environment: %s", text)
			}
			var facts struct {
				Job, UUID, Started string
				Success            bool
				Result             struct{ Text string }
				Artifacts          []struct{ Path, Mode, File string }
				Main               *struct{ Path string }
			}
			must(t, json.Unmarshal([]byte(read("facts")), &facts))
			if facts.Job != "hello" || facts.Started != "2026-03-04T05:06:07.5Z" || facts.Success || facts.Result.Text != "exited 3" ||
				len(facts.Artifacts) != len(test.paths) || (facts.Main != nil) != (test.main != "") {
				t.Errorf("facts: %s", read("facts"))
			}
			if test.main != "" && (facts.Main.Path != test.main || facts.Artifacts[1].Mode != "0755") {
				t.Errorf("facts: %s", read("facts"))
			}
		})
	}
}

// TestRelative: a server may be given its directories as it likes.
func TestRelative(t *testing.T) {
	d := directory(t, map[string]string{"hook": show})
	t.Chdir(filepath.Dir(d.Path))
	d.Path, d.Cache, d.Data = "upload-hooks", "cache", "."
	if _, err := run(t, d, build()); err != nil {
		t.Fatal(err)
	}
	args, err := os.ReadFile("cache/args")
	must(t, err)
	if !strings.Contains(string(args), "--data-dir=/") {
		t.Errorf("arguments: %s", args)
	}
}

// TestOrder: all executables, one after the other, also behind one that fails.
func TestOrder(t *testing.T) {
	d := directory(t, map[string]string{
		"20-b": "echo b >> said", "10-a": "echo a >> said; echo oops; exit 7", "30-c.sh": "echo c >> said; kill -9 $$",
		".hidden": "echo hidden >> said", "20-b~": "echo old >> said", "note": "echo note >> said",
	})
	must(t, os.Chmod(filepath.Join(d.Path, "note"), 0o644))
	must(t, os.Mkdir(filepath.Join(d.Path, "directory"), 0o755))
	must(t, os.Symlink("nowhere", filepath.Join(d.Path, "dangling")))
	must(t, os.WriteFile(filepath.Join(d.Path, "40-data"), []byte{1, 2, 3}, 0o755))
	_, err := run(t, d, build())
	var failed *hooks.FailedError
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	for _, want := range []string{"hook 10-a: exit status 7: oops; hook 30-c.sh: signal: killed; hook 40-data: ", "exec format error"} {
		if !strings.Contains(failed.Text, want) {
			t.Errorf("error %q, want one with %q", failed.Text, want)
		}
	}
	said, err := os.ReadFile(filepath.Join(d.Cache, "said"))
	must(t, err)
	if string(said) != "a\nb\nc\n" {
		t.Errorf("ran: %q", said)
	}
}

// TestNone: no directory, or nothing in it, is nothing to do; what can not be read is
// an error that is no hook's.
func TestNone(t *testing.T) {
	d := directory(t, nil)
	if _, err := run(t, d, build()); err != nil {
		t.Error(err)
	}
	d.Path += "/missing"
	if names, err := d.Names(); err != nil || names != nil {
		t.Errorf("%v, %v", names, err)
	}
	must(t, os.WriteFile(d.Path, nil, 0o644))
	var failed *hooks.FailedError
	if _, err := run(t, d, build()); err == nil || errors.As(err, &failed) {
		t.Errorf("a file in place of the directory: %v", err)
	}
}

// TestOutput: whole lines, without what a terminal might take for more, and not for
// ever.
func TestOutput(t *testing.T) {
	d := directory(t, map[string]string{"hook": `
printf 'two '; printf 'parts\n\n\033[31mred\n' >&2
head -c 5000 /dev/zero | tr '\0' x; echo
i=0; while [ $i -lt 1100 ]; do echo line $i; i=$((i+1)); done; printf unended`})
	log, err := run(t, d, build())
	must(t, err)
	for _, want := range []string{`"line":"two parts"`, `"line":"[31mred"`, `"line":"` + strings.Repeat("x", 1024) + `"`, `"line":"line 996"`, `"lines":104,`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%.3000s", want, log)
		}
	}
	if strings.Contains(log, "line 997") {
		t.Error("more is logged than the limit")
	}
}

// TestEnded: a hook that takes too long, and what it left behind.
func TestEnded(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"heeds SIGTERM":            {"exec sleep 1000", "ran longer than 100ms"},
		"heeds nothing":            {"trap '' TERM; while :; do sleep 0.01; done", "ran longer than 100ms"},
		"with children":            {"trap '' TERM; sleep 1000 & sleep 1000", "ran longer than 100ms"},
		"children hold its output": {"sleep 1000 &", "left processes behind"},
	} {
		t.Run(name, func(t *testing.T) {
			d := directory(t, map[string]string{"hook": test.script})
			d.Timeout, d.Grace = 100*time.Millisecond, 50*time.Millisecond
			if name == "children hold its output" {
				d.Timeout = time.Minute
			}
			if _, err := run(t, d, build()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestCancel: a server that ends ends its hooks; they have not failed.
func TestCancel(t *testing.T) {
	if hooks.DefaultGrace > 4*time.Second {
		t.Error("a hook that heeds nothing keeps a server that is stopped for longer than its 5 seconds")
	}
	d := directory(t, map[string]string{"1": "trap '' TERM; echo $$ > pid; mv pid started; while :; do sleep 0.01; done", "2": "echo no > second"})
	d.Grace = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, factsOf(build()), zerolog.Nop()) }()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(d.Cache, "started")); err == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("the hook did not start")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(d.Cache, "second")); err == nil {
		t.Error("the second hook ran")
	}
}
