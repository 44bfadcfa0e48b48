package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"builder/pkg/program"
	"builder/pkg/sandbox"
)

// TestMain lets the test binary be the worker, for TestNobodyListens, and that
// one's supervisor.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_BUILDER_WORKER") != "" || sandbox.IsSupervisor() {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestNobodyListens: a worker whose log nobody reads any more goes on, and leaves
// no temporary directory when it is stopped.
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temporary := t.TempDir()
	cmd := exec.CommandContext(t.Context(), self, "p", "-r", l.Addr().String(), "--protocol", "1001")
	cmd.Env = append(os.Environ(), "TEST_BUILDER_WORKER=1", "TMPDIR="+temporary)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // each lost connection is logged before the next one is made
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the worker: %v", err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestRefused: wrong command lines, with what is told of them and the status.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   []string
		status int
		told   string
	}{
		"no platform":   {nil, 2, "name one platform"},
		"two platforms": {[]string{"a", "b"}, 2, "name one platform"},
		"flag":          {[]string{"a", "--nosuch"}, 2, "unknown flag"},
		"isolation":     {[]string{"a", "--isolation", "glass"}, 2, `isolation "glass" is unknown`},
		"protocol":      {[]string{"a", "--protocol", "7"}, 2, "protocol 7 is unknown"},
		"variable":      {[]string{"a", "--env", "NO_SUCH_VARIABLE"}, 2, "NO_SUCH_VARIABLE"},
		"log level":     {[]string{"a", "--log-level", "loud"}, 2, `"loud"`},
		"directory":     {[]string{"a", "--dir", file}, 1, file},
	} {
		t.Run(name, func(t *testing.T) {
			told := capture(t, func() int {
				cmd := command()
				cmd.SetArgs(test.args)
				return program.Main(t.Context(), cmd)
			}, test.status)
			if !strings.Contains(told, test.told) {
				t.Errorf("told %q, want %q", told, test.told)
			}
		})
	}
}

// capture runs f, checks its status and returns what went to standard error.
func capture(t *testing.T, f func() int, want int) string {
	t.Helper()
	stderr := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w
	status := f()
	os.Stderr = stderr
	w.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Errorf("status %d, want %d: %s", status, want, out.String())
	}
	return out.String()
}
