package remotetest

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ErrNotInstalled says that there is no nginx here.
var ErrNotInstalled = errors.New("nginx is not installed")

// Nginx starts nginx.
func Nginx(t testing.TB, o Options) *Store {
	t.Helper()
	program(t, "nginx")
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := StartNginx(t.Context(), o)
	s.stopAfter(t, err)
	return s
}

// StartNginx is Nginx for who is no test: Options.Dir is there, and the caller stops
// the Store. ErrNotInstalled is one of the errors.
func StartNginx(ctx context.Context, o Options) (*Store, error) {
	path := find("nginx")
	if path == "" {
		return nil, ErrNotInstalled
	}
	dir := o.Dir
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{Root: filepath.Join(dir, "store", "artifacts"), Log: filepath.Join(dir, "access.log")}
	if s.CAFile, err = certificate(dir); err != nil {
		return nil, err
	}
	scheme := "http"
	if o.TLS {
		scheme = "https"
	}
	s.URL = scheme + "://" + address + "/artifacts"
	site, err := nginxSite(address, o)
	if err != nil {
		return nil, err
	}
	hash := sha1.Sum([]byte(Password))
	for name, text := range map[string]string{
		"store.htpasswd": User + ":{SHA}" + base64.StdEncoding.EncodeToString(hash[:]) + "\n",
		"nginx.conf":     nginxConfig(dir, s.Log, site),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "store"), 0o755); err != nil {
		return nil, err
	}
	return s, s.start(ctx, address, path, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
}

// nginxSite is docs/nginx-store.conf with other paths and another port.
func nginxSite(address string, o Options) (string, error) {
	root, err := projectRoot()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "nginx-store.conf"))
	if err != nil {
		return "", err
	}
	site, listen := string(text), "listen "+address+";"
	if o.TLS {
		listen = "listen " + address + " ssl;"
	}
	for _, replace := range [][2]string{
		{"listen 443 ssl;", listen},
		{"/etc/nginx/", o.Dir + "/"},
		{"/srv/store", filepath.Join(o.Dir, "store")},
	} {
		if !strings.Contains(site, replace[0]) {
			return "", fmt.Errorf("docs/nginx-store.conf has no %q", replace[0])
		}
		site = strings.ReplaceAll(site, replace[0], replace[1])
	}
	if o.Change != nil {
		site = o.Change(site)
	}
	return site, nil
}

// nginxConfig is what stands around the site.
func nginxConfig(dir, log, site string) string {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the directories are the test's
	}
	return user + `daemon off;
worker_processes 1;
pid ` + dir + `/pid;
error_log stderr;
events { worker_connections 256; }
http {
    log_format test '$request_method $uri $status';
    access_log ` + log + ` test;
    client_body_temp_path ` + dir + `/temp-body;
    proxy_temp_path ` + dir + `/temp-proxy;
    fastcgi_temp_path ` + dir + `/temp-fastcgi;
    uwsgi_temp_path ` + dir + `/temp-uwsgi;
    scgi_temp_path ` + dir + `/temp-scgi;
` + site + `
}
`
}
