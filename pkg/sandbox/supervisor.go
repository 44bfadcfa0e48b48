package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// supervisorName is argv[0] of a supervisor, and what ps shows.
	supervisorName = "builder-supervisor"
	// controlFD is the supervisor's end of the socket. Descriptors 0 to 2 are
	// /dev/null twice, and the worker's standard error.
	controlFD = 3
	// killLimit is how long a supervisor tries to get rid of a tree. Only processes
	// that it may not kill, or that hang in the kernel, take so long: one that is
	// killed has to be given time to die, of which a busy machine may have little.
	killLimit = 30 * time.Second
)

// IsSupervisor tells whether this process was started to be a supervisor. Every
// program that uses a Sandbox, test binaries too, asks first thing in main:
//
//	if sandbox.IsSupervisor() {
//		if err := sandbox.Supervise(); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//		return
//	}
func IsSupervisor() bool {
	return os.Args[0] == supervisorName || len(os.Args) > 1 && os.Args[1] == supervisorName // by sudo
}

// Supervise is the whole life of a supervisor process. It runs one build after
// the other until the worker closes the socket or dies; then it kills what runs
// and returns. An error means that worker and supervisor misunderstood each
// other, or that the system refused something basic.
func Supervise() error {
	// The kernel kills the script when the *thread* that forked it ends. The runtime
	// ends no thread, but one that a goroutine was locked to when it ended.
	runtime.GOMAXPROCS(1)
	if len(os.Args) > 1 {
		runtime.LockOSThread() // as in confine
		if done, err := take(os.Args[1:]); done || err != nil {
			return err
		}
	}
	if err := closeOnExec(controlFD); err != nil {
		return fmt.Errorf("marking descriptors close-on-exec: %w", err)
	}
	if err := becomeReaper(); err != nil {
		return fmt.Errorf("becoming reaper: %w", err)
	}
	unix.Umask(0o022)

	// A service manager may signal every process of the worker's unit. The worker
	// decides what becomes of the build. (Ignoring them would be inherited.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)

	events, err := newEvents()
	if err != nil {
		return fmt.Errorf("waiting for events: %w", err)
	}
	s := supervisor{events: events}
	var unfit reply // why a build can not be confined as asked
	for s.lost == nil {
		if !events.wait(idlePause) {
			continue
		}
		var r request
		r, s.lost = receive(controlFD)
		if s.lost == nil && r.kind == kindConfine {
			unfit = s.confine(r.body)
		}
		if s.lost != nil || r.kind != kindRun {
			continue // a stop may have crossed the reply on its way
		}
		if err := s.run(r, unfit).send(controlFD); err != nil {
			return fmt.Errorf("replying to the worker: %w", err)
		}
	}
	if errors.Is(s.lost, io.EOF) {
		return nil
	}
	return s.lost
}

// supervisor is the state of a supervisor process. One goroutine does all: it waits
// for whatever happens next, and looks what it was. A build goes through
//
//	running ──▸ stopping ──▸ killing ──▸ over
//	   └───────────────────────▴
//
// and it is over when no child is left: the children of a dead process become
// children of the supervisor, so none left means that the tree is empty.
type supervisor struct {
	events *events
	lost   error // why the worker is not heard any more; io.EOF when it is gone

	confinement confinement
}

type stage int

const (
	running stage = iota
	stopping
	killing
)

const (
	// idlePause is how long a supervisor without a build sleeps at most.
	idlePause = time.Hour
	// reapPause is how long a dead process that is not the script may wait to be
	// collected while the build runs.
	reapPause = time.Second
	// orphanPause is how soon the end of a process is noticed that is no event.
	orphanPause = 5 * time.Millisecond
)

// run is one build, from fork to the last of its processes.
func (s *supervisor) run(r request, unfit reply) reply {
	if unfit.Step != 0 {
		unix.Close(r.console) //nolint:errcheck // nothing was written to it
		return unfit
	}
	attributes, leave, err := s.confinement.join(s.confinement.attributes(s.events.attributes()))
	if err != nil {
		unix.Close(r.console) //nolint:errcheck // as above
		return reply{Step: stepJoin, Errno: errnoOf(err)}
	}
	start := time.Now()
	pid, err := syscall.ForkExec(r.args[0], r.args, &syscall.ProcAttr{
		Dir:   r.dir,
		Env:   r.env,
		Files: []uintptr{0, uintptr(r.console), uintptr(r.console)},
		Sys:   attributes,
	})
	leave()
	unix.Close(r.console) //nolint:errcheck // our copy of a pipe's write end; nothing is lost
	if err != nil {
		return reply{Errno: errnoOf(err)}
	}
	s.events.scriptBegun()
	return s.watch(pid, start)
}

// watch waits until nothing is left of the build whose script is pid.
func (s *supervisor) watch(pid int, start time.Time) reply {
	var (
		result reply
		at     = running
		limit  time.Time // of that stage, if it has one
		wait   = reapPause
		pause  = time.Millisecond // between two looks while killing
	)
	enter := func(next stage, most time.Duration) {
		if at < next {
			at, limit = next, time.Now().Add(most)
		}
	}
	for {
		if s.events.blind() {
			wait = min(wait, orphanPause)
		}
		word := s.events.wait(wait)
		ended, left := reap(pid, &result)
		if ended {
			result.Duration = int64(time.Since(start))
			s.events.scriptEnded()
		}
		if !left {
			return result // if there was a word, the next receive gets it
		}
		if ended && at == running {
			enter(killing, killLimit)
		}
		if word {
			r, err := receive(controlFD)
			switch {
			case err != nil:
				s.lost = err
				s.events.ignoreWorker()
				enter(killing, killLimit)
			case r.kind == kindStop && at == running:
				enter(stopping, r.grace)
				signalTree(unix.SIGTERM)
			}
		}
		if at == stopping && !time.Now().Before(limit) {
			enter(killing, killLimit)
		}
		switch at {
		case running:
		case stopping:
			wait = min(reapPause, time.Until(limit))
		case killing:
			if found := killTree(); time.Now().After(limit) {
				result.Left = uint32(max(found, 1))
				return result
			}
			// What was not seen, or not yet dead: look again, ever less often.
			wait, pause = pause, min(2*pause, 200*time.Millisecond)
		}
	}
}

// reap collects what has died. It reports whether the script was among it, whose
// status then is in result, and whether any child is left.
func reap(script int, result *reply) (ended, left bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // ECHILD
			return ended, false
		case pid == 0:
			return ended, true
		case pid == script:
			ended = true
			if status.Signaled() {
				result.Signal = uint32(status.Signal())
			} else {
				result.Code = uint32(status.ExitStatus())
			}
		}
	}
}

func errnoOf(err error) uint32 {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return uint32(errno)
	}
	return uint32(syscall.EIO)
}
