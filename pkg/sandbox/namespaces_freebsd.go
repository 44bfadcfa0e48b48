package sandbox

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// haveNamespaces tells whether the system has them.
const haveNamespaces = false

// privileged tells whether this process may become another user.
func privileged() bool { return os.Geteuid() == 0 }

func spaced(sys *syscall.SysProcAttr) *syscall.SysProcAttr { return sys }

func enterSpaces() error { return nil }

func (c confinement) hide() error { return nil }

func (c confinement) leaveNetwork() error {
	if c.Offline {
		return errNoNamespaces
	}
	return nil
}

func (c confinement) renounce() error { return nil }

func setProcessLimit(most uint64) error {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &before); err != nil {
		return err
	}
	most = min(most, uint64(before.Max)) // which only root can raise
	return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: int64(most), Max: int64(most)})
}

// NamespacesHelp says what to do when namespaces can not be made.
func NamespacesHelp() string { return "use --isolation jail" }
