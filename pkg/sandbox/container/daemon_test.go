//go:build linux

package container_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/container"
)

// TestMain ends the daemons, and lets the test binary be a worker that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("CONTAINER_TEST_SCRIPT") != "" {
		if err := beWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	conform.Main(m, kind)
	for _, d := range daemons {
		d.end()
	}
}

// daemon is a containerd of our own, with an image. It is started when a test needs
// it, and serves all of them.
type daemon struct {
	name  string
	path  string // where its programs are looked for first
	start func() error

	dir string
	cmd *exec.Cmd
	log bytes.Buffer
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "c") }

// daemons are the versions that are tested: the system's, and that which
// scripts/containerd has installed.
var daemons = []*daemon{newDaemon("system", ""), newDaemon("v2", cached("containerd-2.4.2"))}

func cached(name string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(dir, "builder-test", name)
}

func newDaemon(name, path string) *daemon {
	d := &daemon{name: name, path: path}
	d.start = sync.OnceValue(func() (err error) {
		if d.dir, err = os.MkdirTemp("/tmp", "cd-"); err != nil {
			return err
		}
		if err := d.run(); err != nil {
			return err
		}
		for name, program := range map[string]string{"busybox": "", "dash": "/bin/dash", "bash": "/bin/bash"} {
			if err := importImage(d.socket(), name, program); err != nil {
				return fmt.Errorf("importing %s: %w\n%s", name, err, d.log.String())
			}
		}
		return nil
	})
	return d
}

func (d *daemon) program() string {
	if d.path == "" {
		return "containerd"
	}
	return filepath.Join(d.path, "containerd")
}

// run starts the process and waits until it listens.
func (d *daemon) run() error {
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = %q\n",
		filepath.Join(d.dir, "root"), filepath.Join(d.dir, "state"), d.socket())
	file := filepath.Join(d.dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	d.cmd = exec.Command(d.program(), "--config", file)
	d.cmd.Env = append(os.Environ(), "PATH="+d.path+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	d.cmd.Stderr = &d.log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", d.socket())
		if err == nil {
			return conn.Close()
		}
		if time.Since(begin) > 20*time.Second {
			return fmt.Errorf("containerd does not listen: %w\n%s", err, d.log.String())
		}
	}
}

// kill ends the process as a power cut would.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	d.cmd.Wait()
}

func (d *daemon) end() {
	if d.cmd != nil {
		d.kill()
	}
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// each runs a test with every daemon that there is.
func each(t *testing.T, test func(t *testing.T, d *daemon)) {
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			for _, program := range []string{d.program(), "runc", "busybox"} {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("not installed: %v (.ci/run does)", err)
				}
			}
			if err := d.start(); err != nil {
				t.Fatal(err)
			}
			test(t, d)
		})
	}
}

// importImage makes an image whose shell is program, with what that needs, or
// busybox, and imports it.
func importImage(socket, name, program string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeImage(w, name, program)) }()
	names, err := container.Import(context(), socket, r)
	r.CloseWithError(errors.New("not read to the end"))
	if err == nil && len(names) != 1 {
		err = fmt.Errorf("imported %v", names)
	}
	return err
}
