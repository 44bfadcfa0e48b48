package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"builder/pkg/disk"
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
	guard   *guard    // nil without a fence
	spare   spare     // that it was made of
	used    time.Time // when
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

// parts are the directories in it.
func (p *place) parts() []string { return []string{p.output(), p.home(), p.temp()} }

// make makes the place of a spare.
func (p *place) make(s spare) error {
	var err error
	from := filepath.Join(p.sandbox.root, s.name)
	if p.env, err = environment(p.spec, p.home(), p.temp(), p.output()); err != nil {
		return errors.Join(err, disk.RenameNew(from, p.dir))
	}
	if err := disk.RenameNew(from, p.dir); err != nil {
		return err
	}
	p.spare, p.used = s, time.Now()
	return WriteScript(p.script(), p.spec.Script)
}

// Run implements [Place].
func (p *place) Run(ctx context.Context, console io.Writer) (Exit, error) {
	if p.ran {
		return Exit{}, errors.New("running script: a place is used once")
	}
	p.ran = true
	if ctx.Err() != nil {
		if p.guard != nil {
			p.guard.release()
		}
		return Exit{Cause: context.Cause(ctx)}, nil
	}
	if p.guard == nil {
		return p.run(ctx, console, nil)
	}
	confine, err := p.guard.confine(p)
	if err != nil {
		return Exit{}, errors.Join(fmt.Errorf("confining script: %w", err), p.guard.leave(p, new(Exit)))
	}
	exit, err := p.run(ctx, console, &confine)
	if left := p.guard.leave(p, &exit); left != nil {
		err = errors.Join(err, fmt.Errorf("ending the build: %w", left))
	}
	return exit, err
}

// run is Run, but for what is made for it outside of the supervisor.
func (p *place) run(ctx context.Context, console io.Writer, confine *request) (Exit, error) {
	h, err := p.sandbox.take(p.guard)
	if err != nil {
		return Exit{}, fmt.Errorf("running script: %w", err)
	}
	if confine != nil {
		confine.send(h.conn) //nolint:errcheck // a supervisor that died for it does not answer what follows
		var ahead sync.WaitGroup
		ahead.Go(p.sandbox.supervise) // that of the next build, while this one runs
		defer ahead.Wait()
	}
	exit, errno, idle, err := h.run(ctx, Command{
		Dir: p.output(), Args: command(p.script(), p.spec.Script), Env: p.env, Grace: p.spec.Grace,
	}, console)
	if errno != 0 {
		err = errors.Join(err, p.judge(errno, &exit, console))
	}
	if idle {
		err = errors.Join(err, p.sandbox.give(h))
	}
	return exit, err
}

// judge makes the Exit of a script that was not executed.
func (p *place) judge(errno syscall.Errno, exit *Exit, console io.Writer) error {
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
	if p.spare.untouched(p, 0) {
		return nil, nil, nil
	}
	return p.out.Artifacts(check)
}

// Salvage implements [Place].
func (p *place) Salvage(dir string) error { return p.out.Salvage(dir) }

// Remove removes a directory that was salvaged: a build could do anything to it.
func Remove(dir string) error { return remove(dir) }

// Destroy implements [Place].
func (p *place) Destroy() error {
	p.out.Close()
	var err error
	if !p.sandbox.reuse(p) && !removeBare(p) {
		err = remove(p.dir)
	}
	if p.guard != nil {
		p.guard.release()
	}
	p.sandbox.forget(filepath.Base(p.dir))
	p.sandbox.stock()
	if err != nil {
		return fmt.Errorf("destroying place: %w", err)
	}
	return nil
}
