// Package remotetest starts real HTTP stores for tests: nginx, with the very file
// that docs/nginx-store.conf is, and Apache. They end with the test.
package remotetest

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// User and Password are those that the stores want.
const (
	User     = "worker"
	Password = "p:w/r%d"
)

// Store is a server that runs.
type Store struct {
	URL    string // of the prefix, without credentials
	Root   string // contents lie below: <aa>/<sha256>
	CAFile string // what to trust, if it speaks TLS
	Log    string // a file: one line for each request, beginning with method and path
	cmd    *exec.Cmd
	ended  chan struct{}
	errors *bytes.Buffer
}

// Options are what a test wants of a store.
type Options struct {
	Dir string // where its files lie; "" for a temporary directory
	TLS bool
	// Change, if not nil, changes nginx's site before it starts.
	Change func(site string) string
}

// program finds a server, or skips the test.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if path := filepath.Join(dir, name); executable(path) {
			return path
		}
	}
	if os.Getenv("BUILDER_NO_SKIP") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed (Debian: apt-get install %s)", name, name)
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Nginx starts nginx.
func Nginx(t testing.TB, o Options) *Store {
	t.Helper()
	path := program(t, "nginx")
	dir := o.Dir
	if dir == "" {
		dir = t.TempDir()
	}
	s := &Store{Root: filepath.Join(dir, "store", "artifacts"), Log: filepath.Join(dir, "access.log"), CAFile: certificate(t, dir)}
	address := freeAddress(t)
	listen, scheme := "listen "+address+";", "http"
	if o.TLS {
		listen, scheme = "listen "+address+" ssl;", "https"
	}
	s.URL = scheme + "://" + address + "/artifacts"
	text, err := os.ReadFile(filepath.Join(projectRoot(t), "docs", "nginx-store.conf"))
	if err != nil {
		t.Fatal(err)
	}
	site := string(text)
	for _, replace := range [][2]string{
		{"listen 443 ssl;", listen},
		{"/etc/nginx/", dir + "/"},
		{"/srv/store", filepath.Join(dir, "store")},
	} {
		if !strings.Contains(site, replace[0]) {
			t.Fatalf("docs/nginx-store.conf has no %q", replace[0])
		}
		site = strings.ReplaceAll(site, replace[0], replace[1])
	}
	if o.Change != nil {
		site = o.Change(site)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the directories are the test's
	}
	config := user + `daemon off;
worker_processes 1;
pid ` + dir + `/pid;
error_log stderr;
events { worker_connections 256; }
http {
    log_format test '$request_method $uri $status';
    access_log ` + s.Log + ` test;
    client_body_temp_path ` + dir + `/temp-body;
    proxy_temp_path ` + dir + `/temp-proxy;
    fastcgi_temp_path ` + dir + `/temp-fastcgi;
    uwsgi_temp_path ` + dir + `/temp-uwsgi;
    scgi_temp_path ` + dir + `/temp-scgi;
` + site + `
}
`
	hash := sha1.Sum([]byte(Password))
	write(t, filepath.Join(dir, "store.htpasswd"), User+":{SHA}"+base64.StdEncoding.EncodeToString(hash[:])+"\n")
	write(t, filepath.Join(dir, "nginx.conf"), config)
	if err := os.MkdirAll(filepath.Join(dir, "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.start(t, address, path, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	return s
}

// Apache starts Apache with mod_dav, which makes no collection by itself.
func Apache(t testing.TB) *Store {
	t.Helper()
	path := program(t, "apache2")
	const modules = "/usr/lib/apache2/modules/"
	if _, err := os.Stat(modules + "mod_dav_fs.so"); err != nil {
		t.Skipf("the modules of Apache are not where Debian has them: %v", err)
	}
	dir := t.TempDir()
	address := freeAddress(t)
	s := &Store{URL: "http://" + address + "/artifacts", Root: filepath.Join(dir, "root", "artifacts"), Log: filepath.Join(dir, "access.log")}
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "User www-data\nGroup www-data\n"
		opened := []string{dir, filepath.Join(dir, "root")}
		for up := filepath.Dir(dir); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
			opened = append(opened, up)
		}
		for _, name := range opened {
			if err := os.Chmod(name, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	config := ""
	for _, name := range []string{"mpm_event", "authn_core", "authz_core", "dav", "dav_fs"} {
		config += "LoadModule " + name + "_module " + modules + "mod_" + name + ".so\n"
	}
	config += user + `ServerName localhost
ServerRoot ` + dir + `
Listen ` + address + `
PidFile ` + dir + `/pid
ErrorLog ` + dir + `/error.log
LogFormat "%m %U %s" test
CustomLog ` + s.Log + ` test
DavLockDB ` + dir + `/locks
DocumentRoot ` + dir + `/root
<Directory ` + dir + `/root>
    Dav On
    Require all granted
</Directory>
`
	write(t, filepath.Join(dir, "apache.conf"), config)
	s.start(t, address, path, "-DFOREGROUND", "-f", filepath.Join(dir, "apache.conf"))
	return s
}

// start starts the server and waits until it listens.
func (s *Store) start(t testing.TB, address, path string, args ...string) {
	t.Helper()
	s.errors, s.ended = &bytes.Buffer{}, make(chan struct{})
	s.cmd = exec.CommandContext(context.Background(), path, args...)
	s.cmd.Stderr = s.errors
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		s.cmd.Wait() //nolint:errcheck // it is stopped by a signal
	}()
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("what %s says:\n%s", path, s.errors)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("%s ended: %s", path, s.errors)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen: %v\n%s", path, err, s.errors)
		}
	}
}

// Stop ends the server, with its connections.
func (s *Store) Stop() {
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // see above
		<-s.ended
	}
}

// Requests is how many requests with that method were answered.
func (s *Store) Requests(t testing.TB, method string) int {
	t.Helper()
	text, err := os.ReadFile(s.Log)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, method+" ") {
			n++
		}
	}
	return n
}

// projectRoot is the directory of go.mod.
func projectRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal(errors.New("no go.mod above the test"))
		}
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
