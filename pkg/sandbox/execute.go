package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is what a supervisor executes.
type Command struct {
	Dir  string
	Args []string // Args[0] is a path
	Env  []string
	// Grace is the time between TERM and KILL; 0 means DefaultGrace.
	Grace time.Duration
}

// Execute runs a command under a supervisor of its own, as [Place.Run] runs a
// script: when it has returned, no process is left of the command's tree. A command
// that can not be executed is an error.
func Execute(ctx context.Context, c Command, console io.Writer) (Exit, error) {
	if cause := context.Cause(ctx); cause != nil {
		return Exit{Cause: cause}, nil //nolint:nilerr // that is how it ended
	}
	h, err := startSupervisor()
	if err != nil {
		return Exit{}, fmt.Errorf("running command: %w", err)
	}
	exit, errno, idle, err := h.run(ctx, c, console)
	if idle {
		err = errors.Join(err, h.close())
	}
	if errno != 0 {
		err = errors.Join(fmt.Errorf("executing %s: %w", c.Args[0], errno), err)
	}
	return exit, err
}

// run has the supervisor run a command. Errno is why it was not executed. The
// supervisor can be used again if it is idle afterwards; else it is gone.
func (h *handle) run(ctx context.Context, c Command, console io.Writer) (exit Exit, errno syscall.Errno, idle bool, err error) {
	read, write, err := pipe()
	if err != nil {
		return Exit{}, 0, true, fmt.Errorf("making console pipe: %w", err)
	}
	defer shut(read)
	if c.Grace <= 0 {
		c.Grace = DefaultGrace
	}
	exit.Start = time.Now()
	err = request{kind: kindRun, console: write, dir: c.Dir, args: c.Args, env: c.Env}.send(h.conn)
	unix.Close(write) //nolint:errcheck // our copy of a pipe's write end; nothing is lost
	if errors.Is(err, syscall.E2BIG) {
		return Exit{}, 0, true, err
	}
	// Any other error means that the supervisor died; so will the reply say.

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	copied := make(chan error, 1)
	go func() { copied <- CopyConsole(console, read, cancel) }()
	r, err := h.await(ctx, c.Grace, &exit)
	if err != nil {
		exit.Duration = time.Since(exit.Start)
		err = fmt.Errorf("running script: %w (%s)", ErrSupervisor, h.discard())
		return exit, 0, false, errors.Join(err, endConsole(read, copied))
	}
	exit.Duration = time.Duration(r.Duration)
	exit.Code, exit.Signal = int(r.Code), syscall.Signal(r.Signal)
	err = endConsole(read, copied)
	if r.Left > 0 {
		h.discard()
		err = errors.Join(err, fmt.Errorf("running script: %w (%d of them)", ErrLeftover, r.Left))
	}
	errno = syscall.Errno(r.Errno)
	if r.Step != stepScript {
		return exit, 0, r.Left == 0, errors.Join(err, fmt.Errorf("%v: %w", r.Step, errno))
	}
	return exit, errno, r.Left == 0, err
}

// await waits for the supervisor's reply, and tells it when ctx ends. A
// supervisor that does not answer in time is an error like one that died.
func (h *handle) await(ctx context.Context, grace time.Duration, exit *Exit) (reply, error) {
	stopped := make(chan struct{})
	unstop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		h.conn.SetReadDeadline(time.Now().Add(grace + answerLimit)) //nolint:errcheck // only a closed socket has none
		h.stop(grace)
	})
	r, err := h.reply()
	if !unstop() {
		<-stopped
		exit.Cause = context.Cause(ctx)
		h.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	}
	return r, err
}
