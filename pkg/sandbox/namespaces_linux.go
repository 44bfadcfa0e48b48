package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const spaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC

// haveNamespaces tells whether the system has them.
const haveNamespaces = true

// privileged tells whether this process may make namespaces without making a user
// namespace first.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return os.Geteuid() == 0 && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// spaced adds to the attributes of a supervisor's process that it gets namespaces of
// its own: of processes, whose first one it is, of mounts and of IPC. Who is not
// privileged needs a user namespace for them, in which nobody has another number
// than outside.
func spaced(sys *syscall.SysProcAttr) *syscall.SysProcAttr {
	sys.Cloneflags = spaces
	if !privileged() {
		sys.Cloneflags |= unix.CLONE_NEWUSER
		sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}
	}
	return sys
}

// enterSpaces is what the first process of new namespaces does at its start.
func enterSpaces() error {
	// What the machine unmounts is unmounted here as well: else it would stay busy.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keeping mounts from others: %w", err)
	}
	// What a supervisor knows of its tree it has from here.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return nil
}

// hide gives the build its own directories for temporary files, and takes the other
// places out of its sight.
func (c confinement) hide() error {
	if c.Hide == "" {
		return nil
	}
	// What is mounted may cover the way to what is still to be mounted.
	place, err := os.OpenFile(c.Place, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer shut(place)
	temp, err := os.OpenFile(c.Temp, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer shut(temp)
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		switch {
		case !isDirectory(dir):
		case strings.HasPrefix(c.Hide, dir+"/"): // the way there would be seen in TMPDIR
			err = memory(dir)
		default:
			err = bind(temp, dir)
		}
		if err != nil {
			return err
		}
	}
	if isDirectory("/dev/shm") {
		if err := memory("/dev/shm"); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.Hide, 0o711); err != nil { // if it was in /tmp
		return err
	}
	if err := unix.Mount("tmpfs", c.Hide, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=711,size=64k"); err != nil {
		return fmt.Errorf("mounting %s: %w", c.Hide, err)
	}
	if err := os.Mkdir(c.Place, 0o700); err != nil {
		return err
	}
	return bind(place, c.Place)
}

// isDirectory is false for a symbolic link: it leads to a directory that is looked
// at itself, or to one that nobody expects to be temporary.
func isDirectory(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// memory mounts a directory for temporary files that is kept in memory.
func memory(target string) error {
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mounting %s: %w", target, err)
	}
	return nil
}

func bind(dir *os.File, target string) error {
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", target, err)
	}
	return nil
}

// leaveNetwork leaves the network. It is this thread that leaves, the one that forks
// the script.
func (c confinement) leaveNetwork() error {
	if !c.Offline {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}

// renounce keeps from the script what would let it undo its namespaces: the rights
// to mount and to trace, and the supervisor that still has them.
func (c confinement) renounce() error {
	if !c.Renounce {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil // who is not root gets no capability by executing
	}
	for _, capability := range []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func setProcessLimit(most uint64) error {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &before); err != nil {
		return err
	}
	most = min(most, before.Max) // which only root can raise
	return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: most, Max: most})
}

// NamespacesHelp says what to do when namespaces can not be made, as far as settings
// of this machine tell.
func NamespacesHelp() string {
	var help []string
	for _, setting := range []struct{ file, forbids, help string }{
		{"kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
		{
			"kernel/apparmor_restrict_unprivileged_userns", "1",
			"allow userns to the program by an AppArmor profile, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
		},
	} {
		value, err := os.ReadFile(filepath.Join("/proc/sys", setting.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without that setting does not forbid it
		}
		if err == nil && strings.TrimSpace(string(value)) == setting.forbids {
			help = append(help, setting.help)
		}
	}
	if len(help) == 0 {
		return "run the worker outside of a container, as root, or where user namespaces are allowed and /proc is not masked"
	}
	return strings.Join(help, "; ")
}
