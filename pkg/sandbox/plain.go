package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"builder/pkg/job"
)

// placePrefix begins the name of every place's directory.
const placePrefix = "b-"

// Plain is the Sandbox without isolation: a script runs as a process of the
// worker's own user, in a directory of its own. Cancelling, killing and cleaning
// up are complete as far as the package comment says. A [Fence] adds to that.
type Plain struct {
	root  string
	slots int
	fence *fence // nil without
	exact bool   // see exactTimes

	mu     sync.Mutex
	idle   []*handle
	spares []spare
	inUse  map[string]bool // names of directories in root
	closed bool
}

// NewPlain returns a Plain that makes its places below the directory root, which
// is made, for this user only, if it is missing. One supervisor process and the
// directories of one place for each of slots are made ahead, so that a build need
// not wait for them; more builds at a time make more. Close removes them.
//
// The calling process becomes the parent of orphans among its descendants, and
// kills such orphans that are not in its session when a supervisor was killed.
func NewPlain(root string, slots int) (*Plain, error) { return newPlain(root, slots, nil) }

func newPlain(root string, slots int, fence *fence) (*Plain, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("making directory for builds: %w", err)
	}
	if fence != nil {
		fence.root = root
	}
	if fence != nil && fence.accounts {
		if err := os.Chmod(root, 0o711); err != nil { // for those who know their place
			return nil, fmt.Errorf("opening the directory for builds to accounts: %w", err)
		}
	}
	p := &Plain{root: root, slots: slots, fence: fence, exact: fence == nil && slots > 0 && exactTimes(root), inUse: make(map[string]bool)}
	for range slots {
		p.stock()
		if fence != nil && fence.sudo {
			continue
		}
		h, err := p.start(nil)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.idle = append(p.idle, h)
	}
	return p, nil
}

// Kind implements [Sandbox].
func (p *Plain) Kind() string {
	if p.fence == nil {
		return "none"
	}
	return p.fence.kind()
}

// Enforces implements [Sandbox]: a plain process can use what its user can.
func (p *Plain) Enforces(res job.Resources) error {
	if res == (job.Resources{}) {
		return nil
	}
	if p.fence != nil {
		return p.fence.enforces(res)
	}
	return fmt.Errorf("%w: isolation none keeps no bounds (%v)", ErrUnenforced, res)
}

// Sweep implements [Sandbox]: it removes the places below root that an earlier
// process has left behind when it was killed. Places of this Plain stay. No other
// process may be using root.
func (p *Plain) Sweep() error {
	entries, err := os.ReadDir(p.root)
	if err != nil {
		return fmt.Errorf("sweeping: %w", err)
	}
	var left []string
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() && strings.HasPrefix(name, placePrefix) && !p.uses(name) {
			left = append(left, filepath.Join(p.root, name))
		}
	}
	var failures []error
	if p.fence != nil {
		failures = append(failures, p.fence.sweep(left))
	}
	for _, dir := range left {
		failures = append(failures, remove(dir))
	}
	return errors.Join(failures...)
}

// Close ends the idle supervisors. One that is running a build ends after it.
func (p *Plain) Close() error {
	p.mu.Lock()
	idle, spares := p.idle, p.spares
	p.idle, p.spares, p.closed = nil, nil, true
	p.mu.Unlock()
	var failures []error
	for _, spare := range spares {
		failures = append(failures, remove(filepath.Join(p.root, spare.name)))
	}
	for _, h := range idle {
		failures = append(failures, h.close())
	}
	return errors.Join(failures...)
}

// Prepare implements [Sandbox].
func (p *Plain) Prepare(ctx context.Context, spec Spec) (Place, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("preparing place: %w", err)
	}
	if err := p.Enforces(spec.Resources); err != nil {
		return nil, err
	}
	if spec.Grace <= 0 {
		spec.Grace = DefaultGrace
	}
	spare, err := p.spare()
	if err != nil {
		return nil, fmt.Errorf("preparing place: %w", err)
	}
	name := newName(spec.Build)
	pl := newPlace(p, name, spec)
	p.use(name)
	err = pl.make(spare)
	p.forget(spare.name)
	if err == nil && p.fence != nil {
		pl.guard = &guard{fence: p.fence}
		err = pl.guard.admit(ctx, pl)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing place: %w", err), pl.Destroy())
	}
	return pl, nil
}

// Reattach implements [Sandbox].
func (p *Plain) Reattach(name string) (Place, error) {
	pl := newPlace(p, name, Spec{})
	pl.ran = true
	if filepath.Base(name) != name || !strings.HasPrefix(name, placePrefix) {
		return nil, fmt.Errorf("attaching place: %q is not the name of one", name)
	}
	info, err := os.Lstat(pl.dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%w: the build has put something else there", os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("attaching place %s: %w", pl.dir, err)
	}
	p.use(name)
	if p.fence != nil {
		if err := p.fence.cleanFree(pl.dir); err != nil {
			p.forget(name)
			return nil, fmt.Errorf("attaching place %s: %w", pl.dir, err)
		}
	}
	return pl, nil
}

// newName is a directory's name that can not be guessed.
func newName(build string) string {
	return placePrefix + prefix(build) + "-" + strings.ToLower(rand.Text()[:12])
}

// supervise starts a supervisor in a fence for another build, if there are too few: it
// runs one only. When that fails the build starts its own, and tells if that fails too.
func (p *Plain) supervise() {
	p.mu.Lock()
	enough := p.closed || len(p.idle) >= p.slots || p.fence == nil || p.fence.sudo
	p.mu.Unlock()
	if enough {
		return
	}
	if h, err := p.start(nil); err == nil {
		p.keep(h) //nolint:errcheck // it ends with its socket
	}
}

// prefix is the beginning of a build's uuid: enough for people to find the
// directory, and short, since builds make sockets below it, whose paths are
// limited to about 100 octets.
func prefix(build string) string {
	build = build[:min(8, len(build))]
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, build)
}

// start starts a supervisor, of the account if there is a guard that has one.
func (p *Plain) start(g *guard) (*handle, error) {
	switch {
	case p.fence == nil:
		return startSupervisor()
	case g == nil:
		return p.fence.start(nil)
	}
	return p.fence.start(g.lease)
}

// take returns a supervisor that is idle and alive.
func (p *Plain) take(g *guard) (*handle, error) {
	for {
		p.mu.Lock()
		if len(p.idle) == 0 {
			p.mu.Unlock()
			return p.start(g)
		}
		h := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.mu.Unlock()
		if h.alive() {
			return h, nil
		}
		h.discard()
	}
}

// give takes back a supervisor whose build is over. One in a fence has had its build.
func (p *Plain) give(h *handle) error {
	if p.fence != nil {
		return h.close()
	}
	return p.keep(h)
}

// keep keeps an idle supervisor.
func (p *Plain) keep(h *handle) error {
	p.mu.Lock()
	if !p.closed {
		p.idle = append(p.idle, h)
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	return h.close()
}

func (p *Plain) uses(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse[name]
}

func (p *Plain) use(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse[name] = true
}

func (p *Plain) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, name)
}
