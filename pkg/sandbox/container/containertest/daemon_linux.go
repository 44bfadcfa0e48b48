package containertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"builder/pkg/sandbox/container"
)

// startLimit is how long a daemon may take until it listens.
const startLimit = 20 * time.Second

// Daemon is a containerd of our own.
type Daemon struct {
	bin, dir string
	cmd      *exec.Cmd
	log      bytes.Buffer
}

// Installed is the directory into which scripts/containerd installs a program.
func Installed(name string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(dir, "builder-test", name)
}

// Program is the containerd in the directory bin, or in PATH if that is "".
func Program(bin string) string {
	if bin == "" {
		return "containerd"
	}
	return filepath.Join(bin, "containerd")
}

// Start starts the Program of bin. The images are made of the shells that are named:
// busybox by itself, others beside it. The caller closes the Daemon.
func Start(bin string, shells ...string) (_ *Daemon, err error) {
	d := &Daemon{bin: bin}
	if d.dir, err = os.MkdirTemp("/tmp", "cd-"); err != nil { // short, see Socket
		return nil, err
	}
	err = d.Run()
	for _, shell := range shells {
		if err == nil {
			err = d.importImage(shell)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w\n%s", Program(bin), err, d.log.String()), d.Close())
	}
	return d, nil
}

// Dir has all that is the daemon's: its path is in the arguments of every shim.
func (d *Daemon) Dir() string { return d.dir }

// Socket is where it listens. Containerd refuses long paths.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "c") }

// Run starts the process again after Kill, and waits until it listens.
func (d *Daemon) Run() error {
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = %q\n",
		filepath.Join(d.dir, "root"), filepath.Join(d.dir, "state"), d.Socket())
	file := filepath.Join(d.dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	d.cmd = exec.CommandContext(context.Background(), Program(d.bin), "--config", file)
	d.cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	d.cmd.Stderr = &d.log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(context.Background(), "unix", d.Socket())
		if err == nil {
			return conn.Close()
		}
		if time.Since(begin) > startLimit {
			return fmt.Errorf("it does not listen: %w", err)
		}
	}
}

// Kill ends the process as a power cut would; what it has started runs on.
func (d *Daemon) Kill() {
	if d.cmd != nil && d.cmd.Process != nil {
		d.cmd.Process.Kill() //nolint:errcheck // it is gone
		d.cmd.Wait()         //nolint:errcheck // it was killed
	}
}

// Close ends it and removes all that is its.
func (d *Daemon) Close() error {
	d.Kill()
	return os.RemoveAll(d.dir)
}

// importImage makes the image of a shell, which is called like it.
func (d *Daemon) importImage(shell string) error {
	program := ""
	if shell != "busybox" {
		var err error
		if program, err = exec.LookPath(shell); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeImage(w, shell, program)) }() // ends when r is closed
	names, err := container.Import(context.Background(), d.Socket(), r)
	r.CloseWithError(errors.New("not read to the end"))
	if err == nil && len(names) != 1 {
		err = fmt.Errorf("imported %v", names)
	}
	return err
}
