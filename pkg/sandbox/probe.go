package sandbox

import (
	"errors"
	"fmt"
	"io"

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
	if errors.Is(err, io.EOF) {
		shut(h.conn)
		state, err := h.wait()
		return fmt.Errorf("a process in namespaces ended at its start: %v (%w)", state, errors.Join(err, ErrSupervisor))
	}
	if err != nil || r.Errno != 0 || r.Code != 0 {
		err = errors.Join(err, fmt.Errorf("a script in namespaces does not run: error %d, status %d", r.Errno, r.Code))
	}
	return errors.Join(err, h.close())
}
