package builder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// next is what the programs of this tree call themselves here.
const next = "v9.9.9-next"

// TestSkew: the programs of the previous release ($OLD) and those of this tree
// ($NEW) with each other, and with each other's directories.
func TestSkew(t *testing.T) {
	dir := t.TempDir()
	version, source := previous(t, dir)
	programs := map[string]string{"OLD": filepath.Join(dir, "old"), "NEW": filepath.Join(dir, "new")}
	buildPrograms(t, source, programs["OLD"], version)
	buildPrograms(t, ".", programs["NEW"], next)
	t.Run("scripts", func(t *testing.T) { // ends before the directory is removed
		testscript.Run(t, testscript.Params{
			Dir: filepath.Join("testdata", "skew"), RequireExplicitExec: true, RequireUniqueNames: true,
			Deadline: time.Now().Add(2 * time.Minute),
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"server": startServer, "worker": startWorker, "end": endDaemon, "await": await, "status": wantStatus, "sink": startSink, "latest": latest,
			},
			Setup: func(env *testscript.Env) error {
				for name, dir := range programs {
					env.Setenv(name, dir)
				}
				env.Setenv("OLDVERSION", regexp.QuoteMeta(version))
				env.Setenv("NEWVERSION", regexp.QuoteMeta(next))
				env.Setenv("PORT", "0")
				env.Setenv("TZ", "UTC")
				env.Values["daemons"] = map[string]*daemon{}
				return nil
			},
		})
	})
}

// previous checks out the previous release, which scripts/previous names, into
// dir until the test ends.
func previous(t *testing.T, dir string) (version, source string) {
	t.Helper()
	line, err := os.ReadFile(filepath.Join("scripts", "previous"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(line))
	if len(fields) != 2 {
		t.Fatalf("scripts/previous is %q, not VERSION COMMIT", line)
	}
	version, commit := fields[0], fields[1]
	source = filepath.Join(dir, "source")
	add := exec.CommandContext(t.Context(), "git", "worktree", "add", "--quiet", "--detach", source, commit)
	if out, err := add.CombinedOutput(); err != nil {
		tell := t.Skipf
		if os.Getenv("BUILDER_NO_SKIP") != "" {
			tell = t.Fatalf
		}
		tell("the previous release, %s, can not be checked out (in a shallow clone: git fetch --unshallow): git worktree add %s: %v\n%s", version, commit, err, out)
	}
	t.Cleanup(func() {
		remove := exec.CommandContext(context.Background(), "git", "worktree", "remove", "--force", source)
		if out, err := remove.CombinedOutput(); err != nil {
			t.Errorf("git worktree remove: %v\n%s", err, out)
		}
	})
	return version, source
}

// buildPrograms makes the three programs of a source tree.
func buildPrograms(t *testing.T, source, dir, version string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-X builder/pkg/program.Version="+version, "-o", dir+"/", "./cmd/...")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", version, err, out)
	}
}

// daemon is a program that runs beside a script. Its log is in NAME.log.
type daemon struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// listening is what a server logs when it can be reached.
var listening = regexp.MustCompile(`"address":"127\.0\.0\.1:(\d+)".*"message":"listening"`)

// startServer runs a server on data, and waits until it listens, each time on the
// same port: server PROGRAMS [FLAG...].
func startServer(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.MkdirAll(ts.MkAbs("config"), 0o755))
	ts.Check(os.RemoveAll(ts.MkAbs("server.log")))
	flags := append([]string{"--dir", "data", "--config-dir", "config", "--port", ts.Getenv("PORT")}, args[1:]...)
	d := startDaemon(ts, "server", filepath.Join(args[0], "builder-server"), flags)
	poll(ts, "the server listens", d, func() bool {
		found := listening.FindStringSubmatch(ts.ReadFile("server.log"))
		if found != nil {
			ts.Setenv("PORT", found[1])
			ts.Setenv("BUILDER_REMOTE", net.JoinHostPort("127.0.0.1", found[1]))
		}
		return found != nil
	})
}

// startWorker runs a persistent worker: worker PROGRAMS NAME PLATFORM.
func startWorker(ts *testscript.TestScript, _ bool, args []string) {
	startDaemon(ts, args[1], filepath.Join(args[0], "builder-worker"), []string{"--persistent", "--dir", "dir-" + args[1], "--name", args[1], "--env", "WORK", args[2]})
}

func startDaemon(ts *testscript.TestScript, name, program string, args []string) *daemon {
	log, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	ts.Check(err)
	defer log.Close()
	d := &daemon{exec.CommandContext(context.Background(), program, args...), make(chan struct{})}
	d.cmd.Dir, d.cmd.Stderr = ts.MkAbs("."), log
	d.cmd.Env = append(os.Environ(), "BUILDER_REMOTE="+ts.Getenv("BUILDER_REMOTE"), "TZ=UTC", "WORK="+ts.MkAbs("."))
	ts.Check(d.cmd.Start())
	go func() {
		defer close(d.gone)
		d.cmd.Wait()
	}()
	running(ts)[name] = d
	ts.Defer(func() {
		d.cmd.Process.Kill()
		<-d.gone
		text, err := os.ReadFile(log.Name()) // of a server only the last one's
		ts.Check(err)
		ts.Logf("[%s]\n%s", name, text)
	})
	return d
}

// running are the daemons that a script has started, by name.
func running(ts *testscript.TestScript) map[string]*daemon {
	return ts.Value("daemons").(map[string]*daemon)
}

// endDaemon sends a signal to one and waits for its end, unless it is only
// stopped: end NAME kill|term|stop.
func endDaemon(ts *testscript.TestScript, _ bool, args []string) {
	d := running(ts)[args[0]]
	signals := map[string]os.Signal{"kill": syscall.SIGKILL, "term": syscall.SIGTERM, "stop": syscall.SIGSTOP}
	ts.Check(d.cmd.Process.Signal(signals[args[1]]))
	if args[1] == "stop" {
		return
	}
	select {
	case <-d.gone:
	case <-time.After(time.Minute):
		ts.Fatalf("%s does not end", args[0])
	}
}

// await runs a command until what it prints matches: await REGEXP COMMAND...
func await(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	defer func() { ts.Logf("%s", out) }()
	poll(ts, args[0], nil, func() bool {
		cmd := exec.CommandContext(context.Background(), args[1], args[2:]...)
		cmd.Dir, cmd.Env = ts.MkAbs("."), append(os.Environ(), "BUILDER_REMOTE="+ts.Getenv("BUILDER_REMOTE"), "TZ=UTC")
		out, err = cmd.CombinedOutput()
		return want.Match(out)
	})
}

// poll waits until something is so, unless a daemon that it needs has ended.
func poll(ts *testscript.TestScript, what string, needs *daemon, done func() bool) {
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		ended := false
		if needs != nil {
			select {
			case <-needs.gone:
				ended = true
			default:
			}
		}
		if ended || time.Now().After(deadline) {
			ts.Fatalf("waited in vain: %s", what)
		}
	}
}

// wantStatus runs a command and checks its exit status: status N COMMAND...
func wantStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// latest sets $UUID to the newest build that has ended: latest JOB.
func latest(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec(filepath.Join(ts.Getenv("NEW"), "builder-client"), "builds", args[0], "--json"))
	found := regexp.MustCompile(`"uuid": "([0-9a-f-]+)"`).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("no build of %s has ended", args[0])
	}
	ts.Setenv("UUID", found[1])
}

// startSink takes uploads: their sizes are lines of the file uploads, and its URL
// is in $SINK.
func startSink(ts *testscript.TestScript, _ bool, _ []string) {
	file, err := os.Create(ts.MkAbs("uploads"))
	ts.Check(err)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(file, r.Method, r.URL.Path, n, err)
	}))
	ts.Defer(func() {
		sink.Close()
		ts.Check(file.Close())
	})
	ts.Setenv("SINK", sink.URL)
}

// TestSkewTable: docs/protocol.md says what works with what, and each line of
// its table names a script that is there.
func TestSkewTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := bytes.Cut(text, []byte("## Versions and upgrades\n"))
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("`([a-z-]+\\.txtar)`").FindAllSubmatch(section, -1) {
		named[string(match[1])] = true
	}
	scripts, err := filepath.Glob(filepath.Join("testdata", "skew", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		if !named[filepath.Base(script)] {
			t.Errorf("the table lacks %s", script)
		}
		delete(named, filepath.Base(script))
	}
	for name := range named {
		t.Errorf("the table names %s, which does not exist", name)
	}
	if !strings.Contains(string(section), "|---|") {
		t.Error("there is no table")
	}
}
