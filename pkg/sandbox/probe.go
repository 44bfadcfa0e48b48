package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// TryNamespaces makes namespaces as those of a fenced build are made, and tells why
// that does not work here. See NamespacesHelp for what to do then.
func TryNamespaces() error {
	if !haveNamespaces {
		return errNoNamespaces
	}
	h, err := startSpaced()
	if err != nil {
		return err
	}
	return h.probe()
}

// TrySudo tells why accounts can not be had by sudo, nil if they can.
func TrySudo(a Account) error {
	h, err := startBySudo(a)
	if err != nil {
		return err
	}
	return h.probe()
}

// Reachable tells which directory on the way to path, or itself, an account can not
// pass or execute; nil if all can.
func Reachable(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s has mode %v: other users can not get through it", at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// probe runs a script that does nothing, and ends the supervisor.
func (h *handle) probe() (err error) {
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Join(err, h.close())
	}
	defer unix.Close(null) //nolint:errcheck // nothing was written
	run := request{kind: kindRun, console: null, dir: "/", args: []string{"/bin/sh", "-c", ":"}}
	run.send(h.conn) //nolint:errcheck // the reply will tell
	r, err := h.reply()
	if err != nil { // it has closed the socket
		shut(h.conn)
		state, err := h.wait()
		return errors.Join(err, fmt.Errorf("a supervisor ended at its start: %v", state))
	}
	if r.Errno != 0 || r.Code != 0 {
		err = fmt.Errorf("no script can be run: %w, status %d", syscall.Errno(r.Errno), r.Code)
	}
	return errors.Join(err, h.close())
}
