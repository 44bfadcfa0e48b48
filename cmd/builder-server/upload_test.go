package main_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// scripted is a web frontend that fails in every way, at random, until it is calm.
type scripted struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	random *rand.Rand
	faults []string // that may come; nil for none
	stored map[uuid.UUID]int
	order  map[string][]time.Time // when the builds began, by job, as they were stored
}

func newScripted(t *testing.T, seed uint64, faults ...string) *scripted {
	f := &scripted{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), faults: faults,
		stored: map[uuid.UUID]int{}, order: map[string][]time.Time{},
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *scripted) draw() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) == 0 {
		return "201"
	}
	return f.faults[f.random.IntN(len(f.faults))]
}

func (f *scripted) calm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

func (f *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "ann" || password != "hunter2" {
		f.t.Errorf("user %q, password %q", user, password)
	}
	fault := f.draw()
	switch fault {
	case "500", "401":
		status, _ := strconv.Atoi(fault)
		w.WriteHeader(status)
		return
	case "reset":
		io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		reset(w)
		return
	case "silence":
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	case "slowly":
		var body bytes.Buffer
		for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
			_, err = io.CopyN(&body, r.Body, 16<<10)
		}
		if int64(body.Len()) == r.ContentLength { // or the server was killed
			w.WriteHeader(f.store(body.Bytes()))
		}
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server was killed
	}
	status := f.store(body)
	switch {
	case fault == "stored, then reset":
		reset(w)
	case fault == "200" && status == http.StatusCreated:
		w.WriteHeader(http.StatusOK)
	default:
		w.WriteHeader(status)
	}
}

// reset breaks the connection.
func reset(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// store keeps a build, as builder-web does: once.
func (f *scripted) store(body []byte) int {
	skip := func(in io.Reader) error {
		_, err := io.Copy(io.Discard, in)
		return err
	}
	build, err := wire.ReadExec(bytes.NewReader(body), int64(len(body)), wire.ExecVisitor{
		Line: func(_ time.Duration, in io.Reader, _ int64) error { return skip(in) },
		File: func(_ string, in io.Reader, _ int64) error { return skip(in) },
	})
	if err != nil {
		f.t.Errorf("reading an upload: %v", err)
		return http.StatusInternalServerError
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := uuid.UUID(build.UUID)
	if f.stored[id]++; f.stored[id] > 1 {
		return http.StatusConflict
	}
	f.order[build.Job.Name] = append(f.order[build.Job.Name], build.Started)
	return http.StatusCreated
}

// kill ends the server as a power cut would end its process.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.read
	s.cmd.Wait()
}

// dead is a URL where nobody is.
func dead(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// uploadSeed is printed; UPLOAD_SEED repeats one.
func uploadSeed(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("UPLOAD_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("UPLOAD_SEED=%d", seed)
	return seed
}

// TestUploadKilled kills the server at random points while two frontends fail in
// every way and a third is dead: in the end each build is stored once by both, in the
// order of its job where none was refused, and has been through the hooks; and the
// dead one has delayed nothing. No password is in a log or on disk. UPLOAD_KILLS=n
// kills it as often.
func TestUploadKilled(t *testing.T) {
	const jobs = 3
	kills, err := strconv.Atoi(cmp.Or(os.Getenv("UPLOAD_KILLS"), "5"))
	must(t, err)
	seed := uploadSeed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	wild := newScripted(t, seed+1, "201", "200", "500", "401", "reset", "stored, then reset", "silence", "slowly")
	orderly := newScripted(t, seed+2, "201", "200", "500", "reset", "stored, then reset", "silence", "slowly")
	gone := dead(t)
	dir, config := t.TempDir(), t.TempDir()
	hook := "#!/bin/sh\nfor a; do case $a in --uuid=*) echo ${a#--uuid=} >> seen;; esac; done\n"
	must(t, os.Mkdir(filepath.Join(config, "upload-hooks"), 0o755))
	must(t, os.WriteFile(filepath.Join(config, "upload-hooks", "note"), []byte(hook), 0o755))
	with := func(url string) string { return strings.Replace(url, "://", "://ann:hunter2@", 1) + "/upload" }
	args := []string{
		"--dir", dir, "--config-dir", config, "--local-workers", "1", "--local-platform", "p", "--upload-stall", "300ms",
		"--upload", with(gone), "--upload", with(wild.URL), "--upload", with(orderly.URL),
	}
	var logs strings.Builder
	script := []byte("mkdir bin; head -c 400000 /dev/zero > bin/x; echo $$")
	for round := range kills {
		s := start(t, args...)
		c := client.New(s.address, client.Options{})
		for i := range jobs {
			name := fmt.Sprint("job", i)
			var err error
			if round == 0 {
				_, err = c.Schedule(t.Context(), job.Job{Name: name, Platform: "p"}, script, job.Plan{Period: job.Never}, false)
			} else {
				_, err = c.Execute(t.Context(), name, "")
			}
			must(t, err)
		}
		if random.IntN(2) == 0 { // by somebody who looks after parked builds
			_, err := c.OutboxChange(t.Context(), wire.OutboxChange{Action: wire.OutboxRetry})
			must(t, err)
		}
		time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
		s.kill()
		c.Close()
		logs.WriteString(s.log.String())
	}
	wild.calm()
	orderly.calm()
	s := start(t, args...)
	c := client.New(s.address, client.Options{})
	defer c.Close()
	waitUploaded(t, c, gone+"/upload")
	builds := uploadable(t, c)
	s.stop(t)
	logs.WriteString(s.log.String())

	t.Logf("%d builds", len(builds))
	if len(builds) < jobs {
		t.Errorf("%d builds only", len(builds))
	}
	for name, f := range map[string]*scripted{"wild": wild, "orderly": orderly} {
		for _, id := range builds {
			if f.stored[id] == 0 {
				t.Errorf("%s does not have build %v", name, id)
			}
		}
		if len(f.stored) != len(builds) {
			t.Errorf("%s has %d builds, want %d", name, len(f.stored), len(builds))
		}
	}
	for name, began := range orderly.order {
		if !slices.IsSortedFunc(began, time.Time.Compare) {
			t.Errorf("builds of %s came in another order: %v", name, began)
		}
	}
	seen, err := os.ReadFile(filepath.Join(dir, "v1", "hooks", "seen"))
	must(t, err)
	for _, id := range builds {
		if !strings.Contains(string(seen), id.String()) {
			t.Errorf("build %v was not through the hook", id)
		}
	}
	checkNoSecret(t, dir, logs.String())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waitUploaded waits until nothing is built, and nobody but one waits for a build.
func waitUploaded(t *testing.T, c *client.Client, except string) {
	t.Helper()
	wait(t, "the uploads", func() bool {
		status, err := c.Status(t.Context())
		must(t, err)
		idle := len(status.Building) == 0
		for _, p := range status.Platforms {
			idle = idle && len(p.Queue) == 0
		}
		reply, err := c.OutboxChange(t.Context(), wire.OutboxChange{Action: wire.OutboxRetry})
		must(t, err)
		for _, r := range reply.Remotes {
			idle = idle && (r.Name == except || r.Waiting+r.Parked == 0)
		}
		return idle
	})
}

// uploadable are the builds that tell something of their job. Each waits for the
// remote that is dead.
func uploadable(t *testing.T, c *client.Client) (ids []uuid.UUID) {
	t.Helper()
	all, err := c.Builds(t.Context(), "", 1000)
	must(t, err)
	for _, b := range all {
		if !b.Result.Infrastructure() {
			ids = append(ids, b.UUID)
		}
	}
	reply, err := c.Outbox(t.Context(), "", 1000)
	must(t, err)
	if len(reply.Posts) != len(ids) || reply.Remotes[0].Waiting != int64(len(ids)) {
		t.Errorf("%d builds wait for the dead remote, want %d: %+v", len(reply.Posts), len(ids), reply.Remotes)
	}
	return ids
}

// checkNoSecret looks for the password in a log and in all files.
func checkNoSecret(t *testing.T, dir, log string) {
	t.Helper()
	if strings.Contains(log, "hunter2") {
		t.Error("the password is in the log")
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("hunter2")) {
			t.Errorf("the password is in %s", path)
		}
		return err
	})
	must(t, err)
}

// TestUploadFlags: wrong ones, and what is told of them; the password is never.
func TestUploadFlags(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
		must(t, os.Chmod(filepath.Join(dir, name), mode))
		return filepath.Join(dir, name)
	}
	const url = "http://127.0.0.1:1/upload"
	auth := write("auth", url+" ann:hunter2\n", 0o600)
	for name, test := range map[string]struct {
		env, told string
		args      []string
		status    int
	}{
		"bad URL":         {"", "--upload (2 of 2): the upload URL is not valid", []string{"--upload", url, "--upload", "http://ann:hunter2/2@host"}, 2},
		"bad port":        {"", "--upload (1 of 1): the upload URL is not valid: a port is", []string{"--upload", "http://ann:hunter2@host:99999/"}, 2},
		"twice":           {"", "two upload URLs are " + url, []string{"--upload", url, "--upload", "http://ann:hunter2@127.0.0.1:1/upload"}, 1},
		"open file":       {"", "chmod 600", []string{"--upload", url, "--upload-auth-file", write("open", url+" ann:hunter2", 0o644)}, 2},
		"open store file": {"", "chmod 600", []string{"--store", url, "--store-auth-file", write("openstore", "ann:hunter2", 0o644)}, 2},
		"no file":         {"", "no such file", []string{"--upload", url, "--upload-auth-file", dir + "/missing"}, 2},
		"bad line":        {"", "line 1", []string{"--upload", url, "--upload-auth-file", write("bad", "hunter2", 0o600)}, 2},
		"bad environment": {"hunter2", "BUILDER_UPLOAD_AUTH: line 1: there is no USER:PASSWORD", []string{"--upload", url}, 2},
		"no certificates": {"", "none in PEM", []string{"--upload", url, "--upload-ca", auth}, 2},
		"stall":           {"", `"-1s" for "--upload-stall" flag: use 1ms`, []string{"--upload", url, "--upload-stall", "-1s"}, 2},
		"hook timeout":    {"", `"0s" for "--hook-timeout" flag: use 1ms`, []string{"--hook-timeout", "0s"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--dir", t.TempDir(), "--config-dir", t.TempDir(), "--port", "0"}, test.args...)
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "builder-server"), args...)
			if cmd.Env = os.Environ(); test.env != "" {
				cmd.Env = append(cmd.Env, "BUILDER_UPLOAD_AUTH="+test.env)
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != test.status || !strings.Contains(string(out), test.told) {
				t.Errorf("%v, want status %d and %q:\n%s", err, test.status, test.told, out)
			}
			if strings.Contains(string(out), "hunter2") {
				t.Errorf("the password is shown: %s", out)
			}
		})
	}
}

// TestUploadAuth: passwords from the file and from the environment; what a local
// worker's script sees of the latter.
func TestUploadAuth(t *testing.T) {
	for _, name := range []string{"file", "environment"} {
		t.Run(name, func(t *testing.T) {
			f := newScripted(t, 0)
			args := []string{"--dir", t.TempDir(), "--config-dir", t.TempDir(), "--local-workers", "1", "--local-platform", "p", "--upload", f.URL + "/upload"}
			if name == "file" {
				file := filepath.Join(t.TempDir(), "auth")
				must(t, os.WriteFile(file, []byte(f.URL+"/upload ann:hunter2\nhttps://elsewhere/ ann:hunter2\n"), 0o600))
				args = append(args, "--upload-auth-file", file)
			} else {
				t.Setenv("BUILDER_UPLOAD_AUTH", "ann:hunter2")
				t.Setenv("BUILDER_STORE_AUTH", "ann:hunter2")
			}
			s := start(t, args...)
			c := client.New(s.address, client.Options{})
			defer c.Close()
			_, err := c.Schedule(t.Context(), job.Job{Name: "one", Platform: "p"}, []byte("cat /proc/$PPID/environ | tr '\\0' '\\n' | grep hunter2; true"), job.Plan{Period: job.Never}, false)
			must(t, err)
			wait(t, "a build", func() bool {
				builds, err := c.Builds(t.Context(), "", 10)
				must(t, err)
				return len(builds) > 0
			})
			waitUploaded(t, c, "")
			var console []byte
			must(t, c.Watch(t.Context(), wire.Watch{What: "one"}, client.Viewer{Line: func(line job.Line) error {
				console = append(console, line.Data...)
				return nil
			}}))
			s.stop(t)
			if len(f.stored) != 1 {
				t.Errorf("%d builds stored", len(f.stored))
			}
			if text := s.log.String() + string(console); strings.Contains(text, "hunter2") {
				t.Errorf("the password is shown: %s", text)
			}
			if warned := strings.Contains(s.log.String(), `"https://elsewhere"`); warned != (name == "file") {
				t.Errorf("a password that is not used is warned of: %v", warned)
			}
		})
	}
}
