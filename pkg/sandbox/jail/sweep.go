package jail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/sandbox"
)

// Sweep implements [sandbox.Sandbox]: whatever has a name that this worker gives, and
// is not in use, is removed.
func (s *Sandbox) Sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	names, err := s.leftovers(ctx)
	if err != nil {
		return fmt.Errorf("sweeping jails: %w", err)
	}
	var failures []error
	for _, name := range names {
		if s.uses(name) {
			continue
		}
		if err := s.remove(ctx, name); err != nil {
			failures = append(failures, fmt.Errorf("sweeping jail %s: %w", name, err))
		}
	}
	return errors.Join(failures...)
}

// leftovers are the names of all that this worker has made and that is there.
func (s *Sandbox) leftovers(ctx context.Context) ([]string, error) {
	found := map[string]bool{}
	add := func(names ...string) {
		for _, name := range names {
			if strings.HasPrefix(name, s.conf.prefix()) {
				found[name] = true
			}
		}
	}
	jails, err := s.jails(ctx)
	if err != nil {
		return nil, err
	}
	add(jails...)
	ruled, err := s.ruled(ctx)
	if err != nil {
		return nil, err
	}
	add(ruled...)
	filled, err := s.source.names(ctx)
	if err != nil {
		return nil, err
	}
	add(filled...)
	entries, err := os.ReadDir(s.conf.Dir) // mounts are below those
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		add(entry.Name())
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// remove removes all that has this name, whatever there is of it, in the reverse
// order of making. The directory goes last: it has what must be known for the rest.
func (s *Sandbox) remove(ctx context.Context, name string) error {
	if err := s.leave(ctx, name); err != nil {
		return err
	}
	if err := s.source.empty(ctx, name, filepath.Join(s.dir(name), "root")); err != nil {
		return err
	}
	if _, err := os.Lstat(s.dir(name)); err == nil {
		if err := sandbox.Remove(s.dir(name)); err != nil {
			return err
		}
	}
	s.disconnect(name)
	return nil
}

// leave removes all of a place but its files.
func (s *Sandbox) leave(ctx context.Context, name string) error {
	if err := s.kill(ctx, name); err != nil {
		return err
	}
	if err := s.unmount(ctx, filepath.Join(s.dir(name), "root")); err != nil {
		return err
	}
	if err := s.unplug(ctx, name); err != nil {
		return err
	}
	return s.unbound(ctx, name)
}

// kill removes a jail, and all processes in it, if it is there.
func (s *Sandbox) kill(ctx context.Context, name string) error {
	names, err := s.jails(ctx)
	if err != nil || !slices.Contains(names, name) {
		return err
	}
	return s.do(ctx, jailRemove(name))
}

func (s *Sandbox) jails(ctx context.Context) ([]string, error) {
	out, err := s.run(ctx, jailNames()...)
	return strings.Fields(out), err
}

// unmount unmounts what is below a root, the latest first. The root itself is the
// clone's, which goes with it.
func (s *Sandbox) unmount(ctx context.Context, root string) error {
	out, err := s.run(ctx, mounts()...)
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(slices.Collect(strings.Lines(out))) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], root+"/") {
			if err := s.do(ctx, unmount(fields[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

// unbound removes the rules for a jail, if there are any.
func (s *Sandbox) unbound(ctx context.Context, name string) error {
	names, err := s.ruled(ctx)
	if err != nil || !slices.Contains(names, name) {
		return err
	}
	return s.do(ctx, rctlRemove(name))
}

// ruled are the jails that rules are for, which are printed as
// jail:NAME:RESOURCE:ACTION=AMOUNT.
func (s *Sandbox) ruled(ctx context.Context) ([]string, error) {
	if !s.able.rules() {
		return nil, nil // rctl(8) only says so then
	}
	out, err := s.run(ctx, rctlRules()...)
	var names []string
	for line := range strings.Lines(out) {
		if rule, ok := strings.CutPrefix(line, "jail:"); ok {
			name, _, _ := strings.Cut(rule, ":")
			names = append(names, name)
		}
	}
	return names, err
}
