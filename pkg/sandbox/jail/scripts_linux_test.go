package jail_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const scripts = "../../../scripts/"

// subr is a small rc.subr(8): what the scripts use of it.
const subr = `
load_rc_config() { . "$RC/rc.conf"; }
warn() { echo "warning: $*" >&2; }
check_pidfile() { read -r pid 2>/dev/null <"$RC$1" && kill -0 "$pid" 2>/dev/null && echo "$pid" || :; }
wait_for_pids() { for pid; do while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done; done; }
run_rc_command() {
	case $1 in
	start)
		if [ -n "${start_cmd:-}" ]; then $start_cmd; return; fi
		[ -z "${start_precmd:-}" ] || $start_precmd
		eval "$command $command_args"
		;;
	stop) $stop_cmd ;;
	status) $status_cmd ;;
	esac
}
`

// daemon is a small daemon(8) with what the scripts say to it; it prints what it runs.
const daemon = `#!/bin/sh
keeper= child= printed=$*
while getopts P:p:rR:o:t:u: option; do
	case $option in P) keeper=$RC$OPTARG ;; p) child=$RC$OPTARG ;; esac
done
echo "daemon $printed" >>"$RC/log"
[ -n "$child" ] || exit 0
(
	trap 'kill $worker; wait $worker; exit 0' TERM
	sleep 1000 & worker=$!
	echo $worker >"$child"
	wait $worker; wait $worker
) >/dev/null 2>&1 &
echo $! >"$keeper"
`

// rc makes a directory in which a script of rc.d can be run under dash, and returns
// how.
func rc(t *testing.T, script, conf string) (dir string, run func(args ...string) (string, int)) {
	t.Helper()
	shell, err := exec.LookPath("dash")
	if err != nil {
		skip(t, "needs dash")
	}
	dir = t.TempDir()
	text, err := os.ReadFile(scripts + "freebsd/" + script)
	if err != nil {
		t.Fatal(err)
	}
	// The stand-ins are not where FreeBSD has its programs.
	adapted := strings.NewReplacer("/etc/rc.subr", dir+"/rc.subr", "/usr/sbin/daemon", dir+"/daemon").Replace(string(text))
	adapted = strings.NewReplacer("cat \"/var/run", "cat \""+dir+"/var/run", "install -d", "echo install -d").Replace(adapted)
	for name, text := range map[string]string{"rc.subr": subr, "rc.conf": conf, "daemon": daemon, script: adapted} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "var/run"), 0o755); err != nil {
		t.Fatal(err)
	}
	reap(t, filepath.Join(dir, "var/run"))
	return dir, func(args ...string) (string, int) {
		cmd := exec.CommandContext(context.Background(), shell, append([]string{"-u", filepath.Join(dir, script)}, args...)...)
		cmd.Env = append(os.Environ(), "RC="+dir)
		out, err := cmd.CombinedOutput()
		exit := new(exec.ExitError)
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
}

// reap collects the processes of the stand-in of daemon: they become children of this
// process, which is a reaper for the sake of its supervisors.
func reap(t *testing.T, run string) {
	ctx, cancel := context.WithCancel(context.Background())
	var reaping sync.WaitGroup
	reaping.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			files, err := filepath.Glob(run + "/*.pid")
			if err != nil {
				t.Error(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if pid, wrong := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && wrong == nil {
					syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // it lives, or is no child
				}
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reaping.Wait()
	})
}

func TestServerScript(t *testing.T) {
	dir, run := rc(t, "builder_server", "builder_server_enable=YES\nbuilder_server_args='--port 99'\n")
	if out, code := run("start"); code != 0 || !strings.Contains(out, "install -d -m 755 -o builder /var/db/builder") {
		t.Errorf("code %d: %s", code, out)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	want := "daemon -P /var/run/builder_server.pid -r -R 5 -o /var/log/builder_server.log -u builder -t builder_server" +
		" /usr/local/bin/builder-server --dir /var/db/builder --port 99\n"
	if diff := cmp.Diff(want, string(log)); diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestWorkerScript(t *testing.T) {
	dir, run := rc(t, "builder_worker", `
builder_worker_enable=YES
builder_worker_instances="a b wrong"
builder_worker_patience=1
builder_worker_a_platform=freebsd-14
builder_worker_a_args="-r build.example.org --slots 2"
builder_worker_b_platform=freebsd-15
builder_worker_b_kind=throwaway
`)
	var told []string
	step := func(args ...string) {
		out, code := run(args...)
		for _, name := range []string{"a", "b"} {
			if pid, err := os.ReadFile(filepath.Join(dir, "var/run/builder_worker."+name+".keeper.pid")); err == nil {
				out = strings.ReplaceAll(out, "pid "+strings.TrimSpace(string(pid)), "pid N")
			}
		}
		told = append(told, fmt.Sprintf("%s: %d", strings.Join(args, " "), code), strings.TrimSpace(out))
	}
	t.Cleanup(func() { run("stop") })
	step("start")
	step("start", "a")
	step("status", "b")
	step("stop", "b")
	step("status", "a", "b")
	step("start", "other")
	step("stop")
	want := []string{
		"start: 1", "Starting builder_worker a.\nStarting builder_worker b.\nwarning: builder_worker_wrong_platform is not set",
		"start a: 0", "builder_worker a is running already.",
		"status b: 0", "builder_worker b is running as pid N.",
		"stop b: 0", "Stopping builder_worker b; what it builds may go on for 1 seconds.",
		"status a b: 1", "builder_worker a is running as pid N.\nbuilder_worker b is not running.",
		"start other: 1", "warning: other is not in builder_worker_instances",
		"stop: 0", "Stopping builder_worker a; what it builds may go on for 1 seconds.\nbuilder_worker b is not running.\nbuilder_worker wrong is not running.",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	wantLog := ""
	for _, line := range []string{
		"a /usr/local/bin/builder-worker --persistent --dir /var/db/builder-worker/a -r build.example.org --slots 2 freebsd-14",
		"b /usr/local/libexec/builder_worker.sh run b freebsd-15",
	} {
		name := line[:1]
		wantLog += fmt.Sprintf("daemon -P /var/run/builder_worker.%[1]s.keeper.pid -p /var/run/builder_worker.%[1]s.pid -r -R 5"+
			" -o /var/log/builder_worker.%[1]s.log -t builder_worker_%[2]s\n", name, line)
	}
	if diff := cmp.Diff(wantLog, string(log)); diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// cycleStandIn is every command of builder_worker.sh: it keeps a state in files, and
// fails if it is called in a wrong order.
const cycleStandIn = `#!/bin/sh
set -eu
name=${0##*/}
echo "$name $*" >>"$S/log"
case "$name $*" in
"jls name") cat "$S/jail" 2>/dev/null || : ;;
"jail -f $S/jail.conf -c builder-worker-a") [ -e "$S/nullfs" ] && echo builder-worker-a >"$S/jail" ;;
"jail -f $S/jail.conf -r builder-worker-a") rm "$S/jail" ;;
"mount -p")
	[ ! -e "$S/nullfs" ] || printf '%s\n' "/db $S/jails/builder-worker-a/var/db/builder-worker nullfs rw 0 0" \
		"/x $S/jails/builder-worker-abc/x nullfs rw 0 0" ;;
"mount -t nullfs $S/db/a $S/jails/builder-worker-a/var/db/builder-worker") : >"$S/nullfs" ;;
"umount -f $S/jails/builder-worker-a/var/db/builder-worker") [ ! -e "$S/jail" ] && rm "$S/nullfs" ;;
"zfs list -H -o name p/builder-worker-a") [ -e "$S/dataset" ] ;;
"zfs clone -o mountpoint=$S/jails/builder-worker-a p/base@clean p/builder-worker-a")
	[ ! -e "$S/dataset" ] && : >"$S/dataset" && mkdir "$S/jails/builder-worker-a/etc" ;;
"zfs destroy -r -f p/builder-worker-a")
	[ ! -e "$S/nullfs" ]
	[ -e "$S/wasbusy" ] || { : >"$S/wasbusy"; echo "dataset is busy" >&2; exit 1; }
	rm -r "$S/dataset" "$S/jails/builder-worker-a"; mkdir "$S/jails/builder-worker-a" ;;
"jexec builder-worker-a /usr/local/bin/builder-worker --name a --dir /var/db/builder-worker -r h p1")
	[ -e "$S/jail" ]
	trap 'echo finished >>"$S/log"; exit 0' TERM
	: >"$S/running"
	[ ! -e "$S/long" ] || while :; do sleep 0.02; done
	exit 7 ;;
*) echo "unexpected: $name $*" >&2; exit 99 ;;
esac
`

// TestThrowaway runs builder_worker.sh: a cycle, one that is told to end, one that was
// killed, and two with one name.
func TestThrowaway(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"bin", "jails", "db"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"jls", "jail", "mount", "umount", "zfs", "jexec"} {
		if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte(cycleStandIn), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf("snapshot=p/base@clean parent=p jails=%[1]s/jails program=/bin/sh db=%[1]s/db run=%[1]s", dir)
	if err := os.WriteFile(filepath.Join(dir, "throwaway.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{scripts + "freebsd/builder_worker.sh"}, args...)...)
		cmd.Env = append(os.Environ(), "S="+dir, "BUILDER_WORKER_ETC="+dir, "PATH="+dir+"/bin:"+os.Getenv("PATH"))
		cmd.WaitDelay = 10 * time.Second
		return cmd
	}
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	clean := func(when string) {
		t.Helper()
		for _, name := range []string{"jail", "nullfs", "dataset", "builder-worker-a.lock", "jails/builder-worker-a"} {
			if there(name) {
				t.Errorf("%s: %s is left", when, name)
			}
		}
	}
	code := func(cmd *exec.Cmd) int {
		t.Helper()
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), "unexpected") {
			t.Errorf("%s", out)
		}
		return cmd.ProcessState.ExitCode()
	}
	if got := code(command("run", "a", "p1", "-r", "h")); got != 7 {
		t.Errorf("a worker that ends with 7: %d", got)
	}
	clean("a cycle")
	// One that was killed has left the number of a process that now is another one.
	if err := os.WriteFile(filepath.Join(dir, "builder-worker-a.lock"), fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := code(command("sweep", "a")); got != 0 {
		t.Errorf("sweep with a lock of nobody's: %d", got)
	}
	clean("swept with a lock of nobody's")

	if err := os.WriteFile(filepath.Join(dir, "long"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, how := range []struct {
		name   string
		signal os.Signal
	}{{"told to end", syscall.SIGTERM}, {"killed", syscall.SIGKILL}} {
		os.Remove(filepath.Join(dir, "running"))
		cmd := command("run", "a", "p1", "-r", "h")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the worker runs", func() bool { return there("running") })
		if got := code(command("run", "a", "p1")); got != 75 {
			t.Errorf("a second one with this name: %d", got)
		}
		if err := cmd.Process.Signal(how.signal); err != nil {
			t.Error(err)
		}
		err := cmd.Wait()
		if how.signal == syscall.SIGTERM {
			if err != nil {
				t.Errorf("told to end: %v", err)
			}
			clean(how.name)
			continue
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the stand-in of jexec may be gone
		if !there("jail") || !there("builder-worker-a.lock") {
			t.Error("killed: nothing is left, so nothing is tried")
		}
		if got := code(command("sweep", "a")); got != 0 {
			t.Errorf("sweep: %d", got)
		}
		clean("swept")
	}
	for _, args := range [][]string{{}, {"run"}, {"run", "a"}, {"run", "a/b", "p"}, {"other", "a"}, {"sweep", "a", "b"}} {
		if got := code(command(args...)); got != 2 {
			t.Errorf("%q: %d", args, got)
		}
	}
	clean("wrong arguments")
}

// TestUnits has systemd look at the units.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		skip(t, "needs Debian's systemd")
	}
	dir := t.TempDir()
	units, err := filepath.Glob(scripts + "systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units %q, %v", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// Programs that are not installed are an error.
		adapted := strings.NewReplacer("/usr/local/bin/builder-server ", "/bin/true ", "/usr/local/bin/builder-worker ", "/bin/true ",
			"/usr/bin/docker ", "/bin/true ", "Requires=docker.service\n", "").Replace(string(text))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(unit)), []byte(adapted), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range units {
		name := strings.Replace(filepath.Base(unit), "@", "@x", 1)
		cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", filepath.Join(dir, name))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "builder-") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestAssumptions: what docs/isolation.md takes for granted is what selftest.sh tries.
func TestAssumptions(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(scripts + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	numbers := func(pattern, text string) (found []int) {
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			for part := range strings.SplitSeq(match[1], ", ") {
				from, to, ok := strings.Cut(part, "-")
				if !ok {
					to = from
				}
				first, err := strconv.Atoi(from)
				last, wrong := strconv.Atoi(to)
				if err != nil || wrong != nil {
					t.Errorf("number %q: %v, %v", part, err, wrong)
				}
				for n := first; n <= last; n++ {
					found = append(found, n)
				}
			}
		}
		slices.Sort(found)
		return found
	}
	_, table, _ := strings.Cut(read("../docs/isolation.md"), "### What is taken for granted")
	listed := numbers(`(?m)^\| ([0-9][-0-9, ]*) \|`, table)
	tried := numbers(`(?m)^\s*(?:sh_)?holds ([0-9]+) `, read("freebsd/selftest.sh"))
	if diff := cmp.Diff(listed, tried); diff != "" || len(tried) < 30 {
		t.Errorf("docs/isolation.md and selftest.sh differ (-docs +selftest):\n%s", diff)
	}
}
