package sandbox

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// events are what a supervisor waits for: the end of a child, and a word of the
// worker.
type events struct{ queue int }

func newEvents() (*events, error) {
	queue, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(queue)
	var changes [2]unix.Kevent_t
	unix.SetKevent(&changes[0], controlFD, unix.EVFILT_READ, unix.EV_ADD)
	unix.SetKevent(&changes[1], int(unix.SIGCHLD), unix.EVFILT_SIGNAL, unix.EV_ADD)
	if _, err := unix.Kevent(queue, changes[:], nil, nil); err != nil {
		return nil, err
	}
	return &events{queue}, nil
}

// attributes are those of the next script's process.
func (e *events) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// wait waits until there is something to look for, for at most as long as most.
// It reports whether there is a word of the worker, or its end.
func (e *events) wait(most time.Duration) (word bool) {
	var happened [2]unix.Kevent_t
	timeout := unix.NsecToTimespec(max(int64(most), 0))
	n, err := unix.Kevent(e.queue, nil, happened[:], &timeout)
	if err != nil {
		return false // interrupted
	}
	for _, event := range happened[:n] {
		word = word || event.Filter == unix.EVFILT_READ
	}
	return word
}

// scriptBegun is for when it was started.
func (e *events) scriptBegun() {}

// scriptEnded is for when it was collected.
func (e *events) scriptEnded() {}

// blind reports whether the end of the next process is no event.
func (e *events) blind() bool { return false }

// ignoreWorker is for when the worker is gone.
func (e *events) ignoreWorker() {
	var change unix.Kevent_t
	unix.SetKevent(&change, controlFD, unix.EVFILT_READ, unix.EV_DELETE)
	unix.Kevent(e.queue, []unix.Kevent_t{change}, nil, nil) //nolint:errcheck // at worst wait does not wait
}
