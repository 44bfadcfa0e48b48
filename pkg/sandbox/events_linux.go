package sandbox

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// orphanPause is how soon the end of a process is noticed that is not the script.
const orphanPause = 5 * time.Millisecond

// events are what a supervisor waits for during a build: the end of the script,
// and a word of the worker. There is no descriptor for the end of any other
// process, nor for that of the script before Linux 5.2: such is looked for.
type events struct {
	script int // descriptor; -1 when there is no script
	worker int // descriptor; -1 when it is gone
}

func newEvents() (*events, error) { return &events{script: -1, worker: controlFD}, nil }

// attributes are those of the next script's process.
func (e *events) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &e.script}
}

// wait waits until there is something to look for, for at most as long as most.
// It reports whether there is a word of the worker, or its end.
func (e *events) wait(most time.Duration) (word bool) {
	if e.script < 0 {
		most = min(most, orphanPause)
	}
	fds := []unix.PollFd{
		{Fd: int32(e.worker), Events: unix.POLLIN},
		{Fd: int32(e.script), Events: unix.POLLIN},
	}
	milliseconds := int((most + time.Millisecond - 1) / time.Millisecond)
	if _, err := unix.Poll(fds, max(milliseconds, 0)); err != nil {
		return false // interrupted
	}
	return fds[0].Revents != 0
}

// scriptEnded is for when it was collected.
func (e *events) scriptEnded() {
	unix.Close(e.script) //nolint:errcheck // there is none before Linux 5.2, else nothing is lost
	e.script = -1
}

// ignoreWorker is for when the worker is gone.
func (e *events) ignoreWorker() { e.worker = -1 }
