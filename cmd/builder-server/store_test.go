package main_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/remote/remotetest"
)

// startWorker starts a worker of platform p; it is killed when the test ends.
func startWorker(t *testing.T, s *server, env []string, args ...string) (kill func(), log *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "builder-worker"), append(args, "--remote", s.address, "--persistent", "p")...)
	log = &bytes.Buffer{}
	cmd.Stderr, cmd.Env = log, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(kill)
	return kill, log
}

// only is the one artifact of the only build, whose console is shown when there is
// none.
func only(t *testing.T, c *client.Client) (record string, build job.Build) {
	t.Helper()
	wait(t, "the build's end", func() bool {
		builds, err := c.Builds(t.Context(), "one", 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(builds) > 0 {
			build = builds[0]
		}
		return len(builds) > 0
	})
	var out bytes.Buffer
	if err := c.Export(t.Context(), build.UUID.String(), &out); err != nil {
		t.Fatalf("exporting: %v", err)
	}
	return out.String(), build
}

func scheduleOne(t *testing.T, c *client.Client, script string) {
	t.Helper()
	if _, err := c.Schedule(t.Context(), job.Job{Name: "one", Platform: "p"}, []byte(script), job.Plan{Period: job.Never}, false); err != nil {
		t.Fatal(err)
	}
}

// TestStore: the flags of both programs, with nginx, TLS and a private authority.
// The password is in no log and in no file that they write.
func TestStore(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{TLS: true})
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("# of a test\nhttps://other.example.org someone:else\n"+real.URL+"/ "+remotetest.User+":"+remotetest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data, spool := t.TempDir(), t.TempDir()
	s := start(t, "--dir", data, "--config-dir", t.TempDir(), "--store", "http://127.0.0.1:9/", "--store", real.URL+"/", "--store-auth-file", auth, "--store-ca", real.CAFile)
	kill, log := startWorker(t, s, []string{"BUILDER_STORE_AUTH=" + remotetest.User + ":" + remotetest.Password},
		"--store", strings.Replace(real.URL, "https", "HTTPS", 1), "--store-ca", real.CAFile, "--dir", spool)
	c := client.New(s.address, client.Options{})
	defer c.Close()
	scheduleOne(t, c, "echo hello >greeting")
	if record, _ := only(t, c); !strings.Contains(record, "hello\n") {
		t.Errorf("the result file has no artifact: %q", record)
	}
	name := job.ContentOf([]byte("hello\n")).String()
	if text, err := os.ReadFile(filepath.Join(real.Root, name[:2], name)); string(text) != "hello\n" || err != nil {
		t.Errorf("the store has %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(data, "v1", "content", name[:2], name)); err == nil {
		t.Error("the server has the content as well")
	}
	kill()
	s.stop(t)
	for _, text := range []string{s.log.String(), log.String(), everything(t, data), everything(t, spool)} {
		if strings.Contains(text, remotetest.Password) {
			t.Error("the password is told")
		}
	}
}

// everything is what the files below dir hold.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestStoreKilled kills a worker, without mercy, when one content is in the store
// and half of another: the next one goes on, and sends again only what is not there.
func TestStoreKilled(t *testing.T) {
	var mu sync.Mutex
	files, puts := map[string][]byte{}, map[string]int{}
	half, killed := make(chan struct{}, 10), make(chan struct{})
	release := sync.OnceFunc(func() { close(killed) })
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		file, there := files[r.URL.Path]
		mu.Unlock()
		switch {
		case r.Method != http.MethodPut && there:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
			return
		case r.Method != http.MethodPut:
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		puts[r.URL.Path]++
		first := puts[r.URL.Path] == 1
		mu.Unlock()
		if first && r.ContentLength > 1000 {
			r.Body = io.NopCloser(io.LimitReader(r.Body, r.ContentLength/2)) // of a store that keeps what it has
		}
		file, err := io.ReadAll(r.Body)
		mu.Lock()
		files[r.URL.Path] = file
		mu.Unlock()
		if first && r.ContentLength > 1000 {
			half <- struct{}{}
			<-killed
			panic(http.ErrAbortHandler)
		}
		if err == nil {
			w.WriteHeader(http.StatusCreated)
		}
	}))
	t.Cleanup(func() {
		release()
		store.Close()
	})
	s := start(t, "--dir", t.TempDir(), "--config-dir", t.TempDir(), "--store", store.URL)
	c := client.New(s.address, client.Options{})
	defer c.Close()
	dir := t.TempDir()
	kill, _ := startWorker(t, s, nil, "--store", store.URL, "--dir", dir)
	scheduleOne(t, c, "echo hello >greeting; head -c 300000 /dev/zero >large")
	<-half
	small := job.ContentOf([]byte("hello\n")).String()
	wait(t, "the small content", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(files["/"+small[:2]+"/"+small]) > 0
	})
	kill()
	release()
	startWorker(t, s, nil, "--store", store.URL, "--dir", dir)
	record, build := only(t, c)
	if !strings.Contains(record, "hello\n") || len(record) < 300_000 || !build.Result.Success() {
		t.Errorf("the build %v, exported as %d octets", build.Result, len(record))
	}
	mu.Lock()
	defer mu.Unlock()
	var sent []int
	for _, n := range puts {
		sent = append(sent, n)
	}
	if len(sent) != 2 || puts["/"+small[:2]+"/"+small] != 1 || sent[0]+sent[1] != 3 {
		t.Errorf("sent %v", puts)
	}
}
