package sandbox

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// events are what a supervisor waits for: the end of the script, and a word of the
// worker. There is no descriptor for the end of any other process, nor for that of
// the script before Linux 5.3.
//
// The queue is one of epoll, and it is the Go runtime that waits for it: a call of
// the kernel that blocks makes the runtime look after its other threads, again and
// again, which takes longer than all else that a supervisor does for a small build.
type events struct {
	queue  int // descriptor
	file   *os.File
	await  syscall.RawConn // of that file
	script int             // descriptor; -1 when there is no script
}

func newEvents() (*events, error) {
	queue, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(queue, true); err != nil {
		return nil, err
	}
	e := &events{queue: queue, file: os.NewFile(uintptr(queue), "events"), script: -1}
	if err := e.file.SetDeadline(time.Time{}); err != nil { // the runtime can not wait for it
		return nil, err
	}
	if e.await, err = e.file.SyscallConn(); err != nil {
		return nil, err
	}
	return e, e.change(unix.EPOLL_CTL_ADD, controlFD)
}

// change adds a descriptor, or takes it out.
func (e *events) change(how, fd int) error {
	return unix.EpollCtl(e.queue, how, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// attributes are those of the next script's process.
func (e *events) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &e.script}
}

// scriptBegun is for when it was started.
func (e *events) scriptBegun() {
	if e.script >= 0 && e.change(unix.EPOLL_CTL_ADD, e.script) != nil {
		e.scriptEnded() // it has to be looked for
	}
}

// scriptEnded is for when it was collected.
func (e *events) scriptEnded() {
	unix.Close(e.script) //nolint:errcheck // there is none before Linux 5.3, else nothing is lost
	e.script = -1
}

// blind reports whether the end of the next process is no event.
func (e *events) blind() bool { return e.script < 0 }

// ignoreWorker is for when the worker is gone.
func (e *events) ignoreWorker() {
	e.change(unix.EPOLL_CTL_DEL, controlFD) //nolint:errcheck // at worst wait does not wait
}

// wait waits until there is something to look for, for at most as long as most.
// It reports whether there is a word of the worker, or its end.
func (e *events) wait(most time.Duration) (word bool) {
	var happened [2]unix.EpollEvent
	n := 0
	e.file.SetReadDeadline(time.Now().Add(most)) //nolint:errcheck // newEvents has tried
	e.await.Read(func(uintptr) bool {            //nolint:errcheck // the deadline, at most
		n, _ = unix.EpollWait(e.queue, happened[:], 0) //nolint:errcheck // nothing happened
		return n > 0
	})
	for _, event := range happened[:max(n, 0)] {
		word = word || event.Fd == controlFD
	}
	return word
}
