package sandbox

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// procctl(2): commands, flags and structures, which x/sys does not have.
const (
	idtypePID      = 0 // P_PID
	reapAcquire    = 2 // PROC_REAP_ACQUIRE
	reapStatus     = 4 // PROC_REAP_STATUS
	reapGetPIDs    = 5 // PROC_REAP_GETPIDS
	reapKill       = 6 // PROC_REAP_KILL
	pidInfoIsValid = 1 // REAPER_PIDINFO_VALID
)

type reaperStatus struct {
	flags, children, descendants uint32
	reaper, pid                  int32
	_                            [15]uint32
}

type reaperPIDs struct {
	count uint32
	_     [15]uint32
	pids  *reaperPIDInfo
}

type reaperPIDInfo struct {
	pid, subtree int32
	flags        uint32
	_            [15]uint32
}

type reaperKill struct {
	signal  int32
	flags   uint32
	subtree int32
	killed  uint32
	failed  int32
	_       [15]uint32
}

func procctl(command int, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_PROCCTL, idtypePID, uintptr(os.Getpid()), uintptr(command), uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// becomeReaper makes this process the parent of every descendant that loses its
// own.
func becomeReaper() error { return procctl(reapAcquire, nil) }

// closeOnExec keeps descriptors from first on from every process that is
// executed; the worker may have been started with some that it knows nothing of.
func closeOnExec(first uint) error {
	for fd := int(first); fd < 1024; fd++ {
		unix.CloseOnExec(fd)
	}
	return nil
}

// signalTree sends a signal to all descendants, once. Those that are stopped
// go on, so that they can heed it.
func signalTree(sig unix.Signal) {
	reapSignal(sig)
	reapSignal(unix.SIGCONT)
}

// killTree kills all descendants, and returns how many there were. The kernel
// itself sees to those that fork meanwhile.
func killTree() int {
	var status reaperStatus
	if err := procctl(reapStatus, unsafe.Pointer(&status)); err != nil {
		return 0
	}
	reapSignal(unix.SIGKILL)
	return int(status.descendants)
}

func reapSignal(sig unix.Signal) {
	kill := reaperKill{signal: int32(sig)}
	procctl(reapKill, unsafe.Pointer(&kill)) //nolint:errcheck // none was left, or some are not ours to signal
}

// killAll kills what find finds, and returns how many that were.
func killAll(find func() []int) int {
	found := find()
	for _, pid := range found {
		unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // it died by itself, or is not ours to kill
	}
	return len(found)
}

// orphans are the descendants of this process (not those of a reaper below it)
// that it did not start itself. Those that it did start are in its own session,
// or are exempt; what was adopted from a supervisor never is, since a process
// can start a session but not join one.
func orphans(exempt func(pid int) bool) []int {
	var status reaperStatus
	session, err := unix.Getsid(0)
	if err != nil || procctl(reapStatus, unsafe.Pointer(&status)) != nil || status.descendants == 0 {
		return nil
	}
	infos := make([]reaperPIDInfo, status.descendants+16)
	list := reaperPIDs{count: uint32(len(infos)), pids: &infos[0]}
	if procctl(reapGetPIDs, unsafe.Pointer(&list)) != nil {
		return nil
	}
	var found []int
	for _, info := range infos {
		pid := int(info.pid)
		if info.flags&pidInfoIsValid == 0 || exempt(pid) {
			continue
		}
		if of, err := unix.Getsid(pid); err == nil && of != session {
			found = append(found, pid)
		}
	}
	return found
}
