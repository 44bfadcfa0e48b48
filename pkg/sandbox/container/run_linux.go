package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"builder/pkg/sandbox"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
)

const (
	// killLimit is how long a container may take to end after KILL.
	killLimit = 30 * time.Second
	// termLimit is how long it may take to have TERM sent.
	termLimit = 5 * time.Second
	// rejoinPause is the time between two attempts to find containerd again.
	rejoinPause = 200 * time.Millisecond
)

// Run implements [sandbox.Place].
func (p *place) Run(ctx context.Context, console io.Writer) (sandbox.Exit, error) {
	if p.ran {
		return sandbox.Exit{}, errors.New("running script: a place is used once")
	}
	p.ran = true
	if ctx.Err() != nil {
		return sandbox.Exit{Cause: context.Cause(ctx)}, nil //nolint:nilerr // it is in the Exit
	}
	exit := sandbox.Exit{Start: time.Now()}
	starting, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	err := p.task.Start(starting)
	cancel()
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("starting container: %w", err)
	}
	p.sandbox.stock(shapeOf(p.spec))
	return p.follow(ctx, exit, console)
}

// Begun implements [sandbox.Resumer].
func (p *place) Begun() time.Time {
	info, err := os.Stat(p.workspace().start()) // written when the build was known
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// Resume implements [sandbox.Resumer].
func (p *place) Resume(ctx context.Context, spec sandbox.Spec, console io.Writer) (sandbox.Exit, error) {
	if !p.attached || p.container == nil {
		return sandbox.Exit{}, sandbox.ErrOver
	}
	p.spec = spec
	if spec.Grace <= 0 {
		p.spec.Grace = sandbox.DefaultGrace
	}
	exit := sandbox.Exit{Start: p.Begun()}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	var err error
	if p.task, err = p.container.Task(asking, nil); errdefs.IsNotFound(err) {
		w := readWritten(p.workspace().work())
		if !w.whole {
			return exit, sandbox.ErrOver
		}
		exit.Code, exit.Signal = outcome(w.code, w)
		return exit, nil
	}
	var status client.Status
	if err == nil {
		status, err = p.task.Status(asking)
	}
	if err != nil {
		return exit, fmt.Errorf("resuming container: %w", err)
	}
	if status.Status == client.Created { // it was never started
		return exit, sandbox.ErrOver
	}
	if err := p.openConsole(); err != nil {
		return exit, err
	}
	p.attached = false
	return p.follow(ctx, exit, console)
}

// follow waits for the end of a build that was started.
func (p *place) follow(ctx context.Context, exit sandbox.Exit, console io.Writer) (sandbox.Exit, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	copied := p.copyConsole(console, stop)
	code, err := p.await(ctx, &exit)
	exit.Duration = time.Since(exit.Start)
	if err == nil {
		exit.Code, exit.Signal = outcome(code, readWritten(p.workspace().work()))
		exit.OutOfMemory = p.spec.Resources.Memory != 0 && killedForMemory(p.name)
	}
	return exit, errors.Join(err, copied.end())
}

// ended is how waiting for a task ended.
type ended struct {
	code int
	err  error
}

// await waits for the end of the container, and brings it about when ctx ends.
func (p *place) await(ctx context.Context, exit *sandbox.Exit) (int, error) {
	waiting, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan ended, 1)
	go func() {
		code, err := p.wait(waiting)
		done <- ended{code, err}
	}()
	defer func() { // the goroutine ends before we do
		giveUp()
		<-done
	}()
	finish := func(e ended) (int, error) {
		done <- e // for the deferred one
		return e.code, e.err
	}
	select {
	case e := <-done:
		return finish(e)
	case <-ctx.Done():
	}
	exit.Cause = context.Cause(ctx)
	p.terminate(waiting)
	grace := time.NewTimer(p.spec.Grace)
	defer grace.Stop()
	select {
	case e := <-done:
		return finish(e)
	case <-grace.C:
	}
	limit := time.NewTimer(killLimit)
	defer limit.Stop()
	again := time.NewTicker(rejoinPause) // containerd may be away
	defer again.Stop()
	for {
		p.task.Kill(waiting, syscall.SIGKILL) //nolint:errcheck // its end is what counts
		select {
		case e := <-done:
			return finish(e)
		case <-again.C:
		case <-limit.C:
			return 0, fmt.Errorf("killing container: %w", sandbox.ErrLeftover)
		}
	}
}

// wait tells the status of the first process, also when containerd is restarted
// meanwhile. If that has lost the task, the process itself has written the status.
func (p *place) wait(ctx context.Context) (int, error) {
	for {
		status, err := p.task.Wait(ctx)
		if err != nil {
			return 0, fmt.Errorf("waiting for container: %w", err)
		}
		code, _, err := (<-status).Result()
		if err == nil {
			return int(code), nil
		}
		_, err = p.container.Task(ctx, nil)
		switch {
		case ctx.Err() != nil:
			return 0, fmt.Errorf("waiting for container: %w", ctx.Err())
		case errdefs.IsNotFound(err):
			if w := readWritten(p.workspace().work()); w.whole {
				return w.code, nil
			}
			return 0, fmt.Errorf("waiting for container: %w", ErrLost)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rejoinPause):
		}
	}
}

// terminate has every process of the build get TERM, as far as that is possible:
// what does not end by it gets KILL.
func (p *place) terminate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, termLimit)
	defer cancel()
	if err := errors.Join(p.workspace().stop(), p.exec(ctx, "/bin/sh", "-c", terminate)); err != nil {
		// The build has no process left, or no shell. Runtimes up to runc 1.1 can do it.
		p.task.Kill(ctx, syscall.SIGTERM, client.WithKillAll) //nolint:errcheck // as above
	}
}

// exec runs a command in the container.
func (p *place) exec(ctx context.Context, args ...string) error {
	spec, err := p.container.Spec(ctx)
	if err != nil {
		return err
	}
	process := *spec.Process
	process.Args = args
	command, err := p.task.Exec(ctx, "command", &process, cio.NullIO)
	if err != nil {
		return err
	}
	defer command.Delete(context.WithoutCancel(ctx), client.WithProcessKill) //nolint:errcheck // it goes with the container
	status, err := command.Wait(ctx)
	if err == nil {
		err = command.Start(ctx)
	}
	if err != nil {
		return err
	}
	_, _, err = (<-status).Result()
	return err
}

// openConsole opens our ends of both FIFOs.
func (p *place) openConsole() (err error) {
	// Not waiting for a writer also makes it one whose reads have deadlines.
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	if p.console, err = os.OpenFile(p.workspace().console(), flags, 0); err != nil {
		return fmt.Errorf("opening console: %w", err)
	}
	if p.end, err = os.OpenFile(p.workspace().end(), flags, 0); err != nil {
		return fmt.Errorf("opening console: %w", err)
	}
	return nil
}
