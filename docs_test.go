package builder_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCrashTable: every test that ARCHITECTURE.md names as a proof exists.
func TestCrashTable(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for line := range strings.Lines(string(text)) {
		pkg := ""
		for _, word := range regexp.MustCompile("`[^`]+`").FindAllString(line, -1) {
			word = strings.Trim(word, "`")
			if !strings.HasPrefix(word, "Test") {
				pkg = word
				continue
			}
			named++
			files, err := filepath.Glob(filepath.Join("pkg", pkg, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			if !anyContains(t, files, "func "+word+"(") {
				t.Errorf("package %s has no test %s", pkg, word)
			}
		}
	}
	if named == 0 {
		t.Error("ARCHITECTURE.md names no test")
	}
}

func anyContains(t *testing.T, files []string, what string) bool {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), what) {
			return true
		}
	}
	return false
}

// TestTour runs the tour of README.md, line by line, but for the worker that
// connects to another machine.
func TestTour(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "make", "build", "BIN="+filepath.Join(dir, "bin"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	if err := os.CopyFS(filepath.Join(dir, "templates"), os.DirFS("templates")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	script := tour(t, dir, port)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BUILDER_REMOTE=127.0.0.1:"+port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "now")); err != nil {
		t.Errorf("the artifact of the tour: %v\n%s", err, out)
	}
}

// tour makes a script of the lines in README.md.
func tour(t *testing.T, dir, port string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text2, _ := strings.Cut(string(text), "## A tour")
	script := "set -eu\ntrap 'kill $server; wait $server' EXIT\n"
	lines := 0
	for line := range strings.Lines(text2) {
		command, ok := strings.CutPrefix(line, "    ")
		if !ok || strings.Contains(command, "example.org") {
			continue
		}
		lines++
		command = strings.Replace(command, "/tmp/builder", dir+"/data", 1)
		if server, ok := strings.CutSuffix(command, " &\n"); ok {
			command = server + " --port " + port + " &\n"
			command += "server=$!\nuntil bin/builder-client info >info 2>&1; do sleep 0.1; done\n"
		}
		// The uuid on the page is somebody else's.
		command = strings.Replace(command, "export 3f2a", `export "$(bin/builder-client builds hello --json | sed -n 's/.*"uuid": *"\([^"]*\)".*/\1/p' | head -n 1)"`, 1)
		script += "echo " + "'$ " + strings.ReplaceAll(strings.TrimSpace(command), "'", "") + "'\n" + command
	}
	if lines < 8 {
		t.Fatalf("the tour has %d lines", lines)
	}
	return script
}

func freePort(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(errors.New("not a TCP address"))
	}
	return fmt.Sprint(tcp.Port)
}
