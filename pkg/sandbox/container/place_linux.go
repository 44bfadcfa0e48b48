package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"builder/pkg/sandbox"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
)

// originLabel is a container's label that keeps Place.Origin.
const originLabel = "builder/origin"

// place is the [sandbox.Place] of a container.
type place struct {
	sandbox   *Sandbox
	name      string
	spec      sandbox.Spec
	origin    string
	raw       []string // variables, see shape.environment
	container client.Container
	task      client.Task
	console   *os.File // our end of the FIFO, which containerd's shim holds open
	end       *os.File // our end of the FIFO for which the first process waits
	out       *sandbox.Output
	ran       bool
	attached  bool // again, and its processes may be alive
}

func (p *place) workspace() workspace { return workspace(filepath.Join(p.sandbox.conf.Dir, p.name)) }

// Prepare implements [sandbox.Sandbox].
func (s *Sandbox) Prepare(ctx context.Context, spec sandbox.Spec) (sandbox.Place, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("preparing container: %w", err)
	}
	if err := s.Enforces(spec.Resources); err != nil {
		return nil, err
	}
	if spec.Build == "" || strings.ContainsAny(spec.Build, "/.\x00") {
		return nil, fmt.Errorf("preparing container: %q is no name for one", spec.Build)
	}
	if spec.Grace <= 0 {
		spec.Grace = sandbox.DefaultGrace
	}
	p, err := s.ready(ctx, shapeOf(spec))
	if err == nil && p == nil {
		p, err = s.create(ctx, s.prefix+spec.Build, shapeOf(spec))
	}
	if err != nil {
		return nil, fmt.Errorf("preparing container: %w", err)
	}
	p.spec = spec
	if err := p.workspace().fill(spec, p.raw); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing container: %w", err), p.Destroy())
	}
	return p, nil
}

// create makes a place whose build is not known yet. On an error nothing is left.
func (s *Sandbox) create(ctx context.Context, name string, sh shape) (_ *place, err error) {
	if s.uses(name) {
		return nil, fmt.Errorf("there is a container %s", name)
	}
	s.use(name)
	p := &place{sandbox: s, name: name}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Destroy())
		}
	}()
	if err := os.Mkdir(string(p.workspace()), 0o700); err != nil { // first of all, see Sweep
		return nil, fmt.Errorf("making workspace: %w", err)
	}
	lease, err := s.client.LeasesService().Create(ctx, leases.WithID(name))
	if err != nil {
		return nil, fmt.Errorf("leasing: %w", err)
	}
	ctx = leases.WithLease(ctx, lease.ID)
	image, err := s.images.get(ctx, sh.platform)
	if err != nil {
		return nil, err
	}
	p.origin = origin(image)
	config, err := s.images.config(ctx, image)
	if err != nil {
		return nil, err
	}
	u, err := s.user.within(config.User)
	if err != nil {
		return nil, err
	}
	env, raw, err := sh.environment(config)
	if err != nil {
		return nil, err
	}
	if err := p.workspace().make(u, sh.resources.Disk); err != nil {
		return nil, fmt.Errorf("making workspace: %w", err)
	}
	if s.conf.network(sh).named() {
		if err := p.workspace().makeNetwork(); err != nil {
			return nil, fmt.Errorf("making workspace: %w", err)
		}
	}
	p.raw, p.out = raw, sandbox.NewOutput(p.workspace().output())
	if err := p.openConsole(); err != nil {
		return nil, err
	}
	p.container, err = s.client.NewContainer(ctx, name,
		client.WithImage(image), client.WithNewSnapshot(name, image),
		client.WithAdditionalContainerLabels(map[string]string{originLabel: p.origin}),
		s.conf.runtime(), client.WithNewSpec(s.spec(name, sh, u, env, p.workspace())))
	if err != nil {
		s.images.forget(image)
		return nil, fmt.Errorf("making container: %w", err)
	}
	if p.task, err = p.container.NewTask(ctx, p.streams); err != nil {
		return nil, fmt.Errorf("making task: %w", err)
	}
	if n := s.conf.network(sh); n.named() {
		if err := p.join(ctx, n); err != nil {
			return nil, fmt.Errorf("joining network %s: %w", n, err)
		}
	}
	return p, nil
}

// streams gives the task the console's FIFO, and nothing to read.
func (p *place) streams(string) (cio.IO, error) {
	return fifo{Stdout: p.workspace().console(), Stderr: p.workspace().console()}, nil
}

// fifo is a task's end of the console. Reading it, and removing it, is our affair.
type fifo cio.Config

func (f fifo) Config() cio.Config { return cio.Config(f) }
func (fifo) Cancel()              {}
func (fifo) Wait()                {}
func (fifo) Close() error         { return nil }

// Name implements [sandbox.Place].
func (p *place) Name() string { return p.name }

// Origin implements [sandbox.Place]: the image's name and digest.
func (p *place) Origin() string { return p.origin }

// Artifacts implements [sandbox.Place].
func (p *place) Artifacts(check func(path string) error) ([]sandbox.Artifact, []sandbox.Note, error) {
	if err := p.halt(); err != nil {
		return nil, nil, err
	}
	return p.out.Artifacts(check)
}

// Salvage implements [sandbox.Place].
func (p *place) Salvage(dir string) error {
	return errors.Join(p.halt(), p.out.Salvage(dir))
}

// halt ends what may be alive of a place that was attached again, and not resumed.
func (p *place) halt() error {
	if !p.attached || p.container == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	if err := removeTask(ctx, p.container); err != nil {
		return fmt.Errorf("ending container: %w", err)
	}
	p.attached = false
	return nil
}

// Destroy implements [sandbox.Place].
func (p *place) Destroy() error {
	if p.out != nil {
		p.out.Close()
	}
	for _, fifo := range []*os.File{p.console, p.end} {
		if fifo != nil {
			shut(fifo)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	err := p.sandbox.remove(ctx, p.name)
	p.sandbox.forget(p.name) // what is left is swept
	if err != nil {
		return fmt.Errorf("destroying container: %w", err)
	}
	return nil
}

// Reattach implements [sandbox.Sandbox]. The build may be running yet: see Resume.
func (s *Sandbox) Reattach(name string) (sandbox.Place, error) {
	if !strings.HasPrefix(name, s.prefix) || filepath.Base(name) != name {
		return nil, fmt.Errorf("attaching container: %q is not the name of one of this worker", name)
	}
	p := &place{sandbox: s, name: name, ran: true, attached: true}
	info, err := os.Lstat(string(p.workspace()))
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: info.Name(), Err: errors.New("not a directory")}
	}
	if err != nil {
		return nil, fmt.Errorf("attaching container: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	c, err := s.client.LoadContainer(ctx, name)
	if err == nil {
		p.container = c
		var labels map[string]string
		labels, err = c.Labels(ctx)
		p.origin = labels[originLabel]
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("attaching container %s: %w", name, err)
	}
	p.out = sandbox.NewOutput(p.workspace().output())
	s.use(name)
	return p, nil
}
