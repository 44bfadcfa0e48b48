package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handle is the worker's side of a supervisor process.
type handle struct {
	process *os.Process
	conn    *net.UnixConn
	// evict kills a supervisor that this user may not kill; nil for all others.
	evict func() error
	// spaced says that it is the first process of its namespaces: when it is killed, all
	// others of them are.
	spaced bool
}

// family knows the supervisors among the children of this process. Whoever
// looks for orphans holds the lock, so that a supervisor which was just started
// is not taken for one. It is the process's, as its children are.
var family = struct {
	sync.Mutex
	supervisors map[int]bool
}{supervisors: make(map[int]bool)}

// adopt makes this process the one that gets what a killed supervisor leaves.
var adopt = sync.OnceValue(becomeReaper)

// startSupervisor starts this program again, as a supervisor.
func startSupervisor() (*handle, error) {
	program, err := self()
	if err != nil {
		return nil, err
	}
	return startProcess(program, []string{supervisorName}, controlFD, supervisorAttributes())
}

// startSpaced starts a supervisor in namespaces of its own.
func startSpaced() (*handle, error) {
	program, err := self()
	if err != nil {
		return nil, err
	}
	h, err := startProcess(program, []string{supervisorName, roleSpaced}, controlFD, spaced(supervisorAttributes()))
	if err == nil {
		h.spaced = true
	}
	return h, err
}

func supervisorAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		// Ctrl-C on a terminal is for the worker alone.
		Setsid: true,
		// A build may have stopped its supervisor. When the worker dies it
		// must go on, to see that and to kill the build.
		Pdeathsig: syscall.SIGCONT,
	}
}

// startProcess starts a program that is to become a supervisor. It gets its end of
// the socket as that descriptor.
func startProcess(program string, args []string, socket int, sys *syscall.SysProcAttr) (*handle, error) {
	if err := adopt(); err != nil {
		return nil, fmt.Errorf("becoming reaper: %w", err)
	}
	conn, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("making socket: %w", err)
	}
	defer shut(theirs)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		shut(conn)
		return nil, err
	}
	defer shut(null)

	// The worker's standard error gets to see a crash of the supervisor.
	files := []*os.File{null, null, os.Stderr, theirs}[:max(3, socket+1)]
	files[socket] = theirs

	family.Lock()
	defer family.Unlock()
	process, err := os.StartProcess(program, args, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{}, // nil would hand on the worker's
		Files: files,
		Sys:   sys,
	})
	if err != nil {
		shut(conn)
		return nil, fmt.Errorf("starting supervisor: %w", err)
	}
	family.supervisors[process.Pid] = true
	return &handle{process: process, conn: conn}, nil
}

// self is the program that runs now, even when its file was replaced since: the
// two sides of the socket must agree.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

func socketpair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "supervisor"), os.NewFile(uintptr(fds[1]), "worker")
	defer shut(ours)
	conn, err := net.FileConn(ours)
	if err != nil {
		shut(theirs)
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil
}

// alive tells whether an idle supervisor still is: its socket has neither an end
// nor anything to read.
func (h *handle) alive() bool {
	raw, err := h.conn.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = errors.Is(err, unix.EAGAIN)
	})
	return err == nil && alive
}

// stop asks for the end of the build. A stopped supervisor is woken first. When
// it is dead, whoever waits for its reply finds out.
func (h *handle) stop(grace time.Duration) {
	h.process.Signal(unix.SIGCONT)                     //nolint:errcheck // see above
	request{kind: kindStop, grace: grace}.send(h.conn) //nolint:errcheck // see above
}

// reply waits for the end of the build.
func (h *handle) reply() (reply, error) {
	var r reply
	err := binary.Read(h.conn, binary.NativeEndian, &r)
	return r, err
}

// close lets an idle supervisor end, and waits for it.
func (h *handle) close() error {
	if h.spaced {
		h.process.Kill() //nolint:errcheck // it may be dead already
	}
	shut(h.conn)
	_, err := h.wait()
	return err
}

// discard ends a supervisor that can not be trusted any more, and kills what it
// leaves behind. It returns how the supervisor ended.
func (h *handle) discard() string {
	if h.evict == nil {
		h.process.Kill() //nolint:errcheck // it may be dead already
	} else if err := h.evict(); err != nil {
		shut(h.conn)
		return err.Error() // waiting for it could be for ever
	}
	shut(h.conn)
	state, err := h.wait()
	killOrphans()
	if err != nil {
		return err.Error()
	}
	return state.String()
}

func (h *handle) wait() (*os.ProcessState, error) {
	state, err := h.process.Wait()
	family.Lock()
	defer family.Unlock()
	delete(family.supervisors, h.process.Pid)
	return state, err
}

// killOrphans kills what dead supervisors have left to this process, for as long
// as there is any, but at most killLimit.
func killOrphans() {
	for start := time.Now(); time.Since(start) < killLimit; time.Sleep(time.Millisecond) {
		if sweepOrphans() == 0 {
			return
		}
	}
}

// sweepOrphans kills once, and returns how many orphans it saw. Children of this
// process are reaped by number: others may wait for theirs.
func sweepOrphans() int {
	family.Lock()
	defer family.Unlock()
	find := func() []int { return orphans(func(pid int) bool { return family.supervisors[pid] }) }
	n := killAll(find)
	for _, pid := range find() {
		unix.Wait4(pid, nil, unix.WNOHANG, nil) //nolint:errcheck // not a child, or not dead yet
	}
	return n
}
