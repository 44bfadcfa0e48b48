package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// answerLimit is how long after the grace period a supervisor may take to kill
// a tree and say so, before it is taken for stopped by the build itself.
const answerLimit = killLimit + 5*time.Second

// place is the Place of a Plain.
type place struct {
	sandbox *Plain
	dir     string
	spec    Spec
	env     []string
	out     *Output
	ran     bool
}

func newPlace(p *Plain, name string, spec Spec) *place {
	pl := &place{sandbox: p, dir: filepath.Join(p.root, name), spec: spec}
	pl.out = NewOutput(pl.output())
	return pl
}

func (p *place) script() string { return filepath.Join(p.dir, "script") }
func (p *place) output() string { return filepath.Join(p.dir, "out") }
func (p *place) home() string   { return filepath.Join(p.dir, "home") }
func (p *place) temp() string   { return filepath.Join(p.dir, "tmp") }

// make makes the place of a spare directory.
func (p *place) make(spare string) error {
	var err error
	if p.env, err = environment(p.spec, p.home(), p.temp(), p.output()); err != nil {
		return errors.Join(err, os.Rename(spare, p.dir))
	}
	if err := os.Rename(spare, p.dir); err != nil {
		return err
	}
	return WriteScript(p.script(), p.spec.Script)
}

// makeSpare makes the directories of a place.
func makeSpare(dir string) error {
	p := place{dir: dir}
	for _, dir := range []string{p.dir, p.output(), p.home(), p.temp()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Run implements [Place].
func (p *place) Run(ctx context.Context, console io.Writer) (Exit, error) {
	if p.ran {
		return Exit{}, errors.New("running script: a place is used once")
	}
	p.ran = true
	if ctx.Err() != nil {
		return Exit{Cause: context.Cause(ctx)}, nil
	}
	h, err := p.sandbox.take()
	if err != nil {
		return Exit{}, fmt.Errorf("running script: %w", err)
	}
	read, write, err := pipe()
	if err != nil {
		return Exit{}, errors.Join(fmt.Errorf("making console pipe: %w", err), p.sandbox.give(h))
	}
	defer shut(read)

	exit := Exit{Start: time.Now()}
	run := request{
		kind: kindRun, console: write, dir: p.output(),
		args: command(p.script(), p.spec.Script), env: p.env,
	}
	err = run.send(h.conn)
	unix.Close(write) //nolint:errcheck // our copy of a pipe's write end; nothing is lost
	if errors.Is(err, syscall.E2BIG) {
		return Exit{}, errors.Join(err, p.sandbox.give(h))
	}
	// Any other error means that the supervisor died; so will the reply say.

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	copied := make(chan error, 1)
	go func() { copied <- CopyConsole(console, read, cancel) }()
	r, err := p.await(ctx, h, &exit)
	if err != nil {
		exit.Duration = time.Since(exit.Start)
		err = fmt.Errorf("running script: %w (%s)", ErrSupervisor, h.discard())
		return exit, errors.Join(err, endConsole(read, copied))
	}
	err = errors.Join(endConsole(read, copied), p.judge(r, &exit, console), p.release(h, r))
	return exit, err
}

// await waits for the supervisor's reply, and tells it when ctx ends. A
// supervisor that does not answer in time is an error like one that died.
func (p *place) await(ctx context.Context, h *handle, exit *Exit) (reply, error) {
	stopped := make(chan struct{})
	unstop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		h.conn.SetReadDeadline(time.Now().Add(p.spec.Grace + answerLimit)) //nolint:errcheck // only a closed socket has none
		h.stop(p.spec.Grace)
	})
	r, err := h.reply()
	if !unstop() {
		<-stopped
		exit.Cause = context.Cause(ctx)
		h.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	}
	return r, err
}

// release gives back the supervisor of a build that is over, unless it still has
// children.
func (p *place) release(h *handle, r reply) error {
	if r.Left == 0 {
		return p.sandbox.give(h)
	}
	h.discard()
	return fmt.Errorf("running script: %w (%d of them)", ErrLeftover, r.Left)
}

// judge makes the Exit out of a reply.
func (p *place) judge(r reply, exit *Exit, console io.Writer) error {
	exit.Duration = time.Duration(r.Duration)
	exit.Code, exit.Signal = int(r.Code), syscall.Signal(r.Signal)
	if r.Errno == 0 {
		return nil
	}
	errno := syscall.Errno(r.Errno)
	text, code, ok := execFailure(p.spec.Script, errno)
	if !ok {
		return fmt.Errorf("starting script: %w", errno)
	}
	exit.Code = code
	if _, err := io.WriteString(console, text); err != nil {
		return fmt.Errorf("writing console: %w", err)
	}
	return nil
}

// Name implements [Place].
func (p *place) Name() string { return filepath.Base(p.dir) }

// Origin implements [Place].
func (p *place) Origin() string { return "" }

// Artifacts implements [Place].
func (p *place) Artifacts(check func(name string) error) ([]Artifact, []Note, error) {
	return p.out.Artifacts(check)
}

// Salvage implements [Place].
func (p *place) Salvage(dir string) error { return p.out.Salvage(dir) }

// Remove removes a directory that was salvaged: a build could do anything to it.
func Remove(dir string) error { return remove(dir) }

// Destroy implements [Place].
func (p *place) Destroy() error {
	p.out.Close()
	if !removeBare(p) {
		if err := remove(p.dir); err != nil {
			return fmt.Errorf("destroying place: %w", err)
		}
	}
	p.sandbox.forget(filepath.Base(p.dir))
	p.sandbox.stock()
	return nil
}
