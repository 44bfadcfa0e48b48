package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	program "builder/cmd/builder-server"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// runVerify runs the command and returns what it printed, and its exit status.
func runVerify(t *testing.T, args ...string) (out, errs string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "builder-server"), append([]string{"verify"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// built is a data directory with one build, and the content of its artifact.
func built(t *testing.T) (dir, content string) {
	t.Helper()
	dir = t.TempDir()
	s := start(t, "--dir", dir, "--config-dir", t.TempDir(), "--local-workers", "1", "--local-platform", "here")
	c := client.New(s.address, client.Options{})
	defer c.Close()
	accepted, err := c.Schedule(t.Context(), job.Job{Name: "one", Platform: "here"}, []byte("echo made > file"), job.Plan{Period: job.Never}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Watch(t.Context(), wire.Watch{Run: accepted.Runs[0].ID, Job: "one"}, client.Viewer{}); err != nil {
		t.Fatal(err)
	}
	out, errs, status := runVerify(t, "--dir", dir)
	if status != 0 || errs != "" || !regexp.MustCompile(`^1 builds, 2 contents, \d+ octets checked, 0 damaged\n$`).MatchString(out) {
		t.Errorf("beside the server: status %d, %q, %q", status, out, errs)
	}
	if _, errs, status := runVerify(t, "--dir", dir, "--repair"); status != 2 || !strings.Contains(errs, fmt.Sprintf("in use by process %d", s.cmd.Process.Pid)) {
		t.Errorf("repairing beside the server: status %d, %q", status, errs)
	}
	s.stop(t)
	name := job.ContentOf([]byte("made\n")).String()
	return dir, filepath.Join("v1/content", name[:2], name)
}

func TestVerify(t *testing.T) {
	dir, content := built(t)
	if err := os.WriteFile(filepath.Join(dir, content), []byte("Made\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const damage = `^job one: build [0-9a-f-]{36}: artifact file: v1/content/\S+: its 5 octets are not those of its hash`
	out, errs, status := runVerify(t, "--dir", dir)
	if status != 1 || errs != "" || !regexp.MustCompile(damage+`\n1 builds, 2 contents, \d+ octets checked, 1 damaged\n$`).MatchString(out) {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	out, errs, status = runVerify(t, "--dir", dir, "--json")
	var printed map[string]any
	if err := json.Unmarshal([]byte(out), &printed); err != nil || status != 1 || errs != "" {
		t.Fatalf("status %d, %v, %q, %q", status, err, out, errs)
	}
	list, ok := printed["damage"].([]any)
	if !ok || len(list) != 1 || printed["complete"] != true || printed["damaged"] != 1.0 {
		t.Fatalf("printed %s", out)
	}
	documented(t, printed, list[0])
	out, errs, status = runVerify(t, "--dir", dir, "--repair")
	if status != 1 || errs != "" || !regexp.MustCompile(damage+` \(moved to v1/damaged/[0-9a-f]{64}\)\n`).MatchString(out) {
		t.Errorf("repairing: status %d, %q, %q", status, out, errs)
	}
	out, _, status = runVerify(t, "--dir", dir)
	if status != 1 || !strings.Contains(out, content+": it is missing, since a repair has moved it to v1/damaged\n") {
		t.Errorf("after the repair: status %d, %q", status, out)
	}
}

// documented holds the fields of the JSON against the manual.
func documented(t *testing.T, objects ...any) {
	t.Helper()
	text, err := os.ReadFile("../../docs/manual/builder-server.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Verifying\n")
	if !ok {
		t.Fatal("the manual has no section on verifying")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	told := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `(?:damage\\[\\]\\.)?([a-z0-9]+)` \\|").FindAllStringSubmatch(section, -1) {
		told[match[1]] = true
	}
	for _, object := range objects {
		fields, ok := object.(map[string]any)
		if !ok {
			t.Fatalf("%v is no object", object)
		}
		for field := range fields {
			if !told[field] {
				t.Errorf("%s is not in the manual", field)
			}
			delete(told, field)
		}
	}
	if len(told) > 0 {
		t.Errorf("in the manual and not printed: %v", told)
	}
}

// TestVerifyRefused: wrong places and command lines.
func TestVerifyRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		told string
	}{
		"flag":      {[]string{"--nosuch"}, "unknown flag"},
		"argument":  {[]string{"extra"}, "extra"},
		"missing":   {[]string{"--dir", file + "/x"}, file + "/x"},
		"a file":    {[]string{"--dir", file}, "not a directory"},
		"empty":     {[]string{"--dir", filepath.Dir(file)}, "it is no data directory"},
		"to repair": {[]string{"--dir", filepath.Dir(file), "--repair"}, "it is no data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, status := runVerify(t, test.args...)
			if status != 2 || out != "" || !strings.Contains(errs, test.told) {
				t.Errorf("status %d, %q, %q, want 2 and %q", status, out, errs, test.told)
			}
		})
	}
}

// TestVerifyInterrupted: Ctrl-C ends it while it reads a content.
func TestVerifyInterrupted(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "v1/content/ab/ab"+strings.Repeat("0", 62))
	if err := os.MkdirAll(filepath.Dir(large), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(large, nil, 0o644), os.Truncate(large, 1<<40)); err != nil {
		t.Skip("no room for a file with a large hole: ", err)
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system does not tell in /proc what a process has opened: ", err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "builder-server"), "verify", "--dir", dir)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fds := fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid)
	wait(t, "the file's opening", func() bool { return opened(fds, large) })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 2 || !strings.Contains(errs.String(), "interrupted: not everything was checked") ||
		!strings.Contains(out.String(), "0 builds, 1 contents, ") {
		t.Errorf("status %d, %q, %q", status, out.String(), errs.String())
	}
}

// opened says whether one of a process's descriptors is the file.
func opened(fds, file string) bool {
	entries, err := os.ReadDir(fds)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		if name, err := os.Readlink(filepath.Join(fds, entry.Name())); err == nil && name == file {
			return true
		}
	}
	return false
}

func TestProgressText(t *testing.T) {
	for name, test := range map[string]struct {
		done, total int64
		after       time.Duration
		want        string
	}{
		"nothing":    {0, 0, 0, "0 B, 0 B/s"},
		"not known":  {5 << 10, 0, time.Second, "5.0 KiB, 5.0 KiB/s"},
		"half":       {1 << 30, 2 << 30, 4 * time.Second, "1.0 GiB of 2.0 GiB, 50 %, 256.0 MiB/s"},
		"a bit more": {101, 100, time.Second, "101 B of 100 B, 100 %, 101 B/s"},
		"very much":  {3 << 60, 3 << 60, time.Hour, "3072.0 PiB of 3072.0 PiB, 100 %, 873.8 TiB/s"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := program.ProgressText(test.done, test.total, test.after); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
