package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Containerd may still be doing what it was asked for by a worker that was killed since,
// so Sweep looks again when it has found something. That it finds something, even of
// the first request for a place, is since the directory is made before.
// What containerd does not end by itself until then is killed.
const (
	sweepPause    = 100 * time.Millisecond
	sweepLooks    = 20
	sweepPatience = 5 // looks
)

// Sweep implements [sandbox.Sandbox].
func (s *Sandbox) Sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	for look := range sweepLooks {
		names, err := s.leftovers(ctx)
		if err != nil {
			return fmt.Errorf("sweeping containers: %w", err)
		}
		var failures []error
		found := false
		for name := range names {
			if !s.uses(name) {
				found = true
				err := s.remove(ctx, name)
				if look >= sweepPatience {
					err = errors.Join(killStrays(name), s.remove(ctx, name))
				}
				failures = append(failures, err)
			}
		}
		if err := errors.Join(failures...); !found || err != nil && look > sweepPatience {
			return err
		}
		time.Sleep(sweepPause)
	}
	return nil
}

// leftovers are the names of all that this worker has made and that is there.
func (s *Sandbox) leftovers(ctx context.Context) (map[string]bool, error) {
	names := map[string]bool{}
	add := func(name string) {
		if strings.HasPrefix(name, s.prefix) {
			names[name] = true
		}
	}
	containers, err := s.client.ContainerService().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		add(c.ID)
	}
	leased, err := s.client.LeasesService().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, lease := range leased {
		add(lease.ID)
	}
	err = s.client.SnapshotService("").Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		add(info.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	watchers, err := shims(s.prefix)
	if err != nil {
		return nil, err
	}
	for name := range watchers {
		add(name)
	}
	entries, err := os.ReadDir(s.conf.Dir)
	for _, entry := range entries {
		add(entry.Name())
	}
	for _, hierarchy := range hierarchies() {
		groups, err := filepath.Glob(filepath.Join(hierarchy, s.prefix+"*"))
		if err != nil {
			return nil, err
		}
		for _, group := range groups {
			add(filepath.Base(group))
		}
	}
	return names, err
}

// remove removes all that has this name, whatever there is of it.
func (s *Sandbox) remove(ctx context.Context, name string) error {
	if err := s.removeContainer(ctx, name); err != nil {
		return err // the workspace may be in use
	}
	w := workspace(filepath.Join(s.conf.Dir, name))
	if err := s.leave(ctx, name, w); err != nil {
		return err
	}
	return w.remove()
}

// removeContainer removes all but the workspace.
func (s *Sandbox) removeContainer(ctx context.Context, name string) error {
	c, err := s.client.LoadContainer(ctx, name)
	if err == nil {
		err = removeTask(ctx, c)
		if err == nil {
			err = c.Delete(ctx)
		}
	}
	for _, step := range []func() error{
		func() error { return s.client.SnapshotService("").Remove(ctx, name) },
		func() error { return s.client.LeasesService().Delete(ctx, leases.Lease{ID: name}) },
	} {
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing container %s: %w", name, err)
		}
		err = step()
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing container %s: %w", name, err)
	}
	return removeGroups(name)
}

// removeTask kills what runs in a container.
func removeTask(ctx context.Context, c client.Container) error {
	task, err := c.Task(ctx, nil)
	if err == nil {
		_, err = task.Delete(ctx)
		if errdefs.IsFailedPrecondition(err) { // it runs yet
			_, err = task.Delete(ctx, client.WithProcessKill)
		}
		if err != nil && !errdefs.IsNotFound(err) && killCreated(ctx, task) {
			_, err = task.Delete(ctx)
		}
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// killCreated kills the first process of a task that was never started, to which runsc
// sends no signal. It reports whether that is dead.
func killCreated(ctx context.Context, task client.Task) bool {
	status, err := task.Status(ctx)
	if err != nil || status.Status != client.Created || task.Pid() == 0 {
		return false
	}
	ended, err := task.Wait(ctx)
	if err != nil || unix.Kill(int(task.Pid()), unix.SIGKILL) != nil {
		return false
	}
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// removeGroups removes the cgroups of a container that some runtimes leave behind.
func removeGroups(name string) error {
	for _, hierarchy := range hierarchies() {
		if err := os.Remove(filepath.Join(hierarchy, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing cgroup: %w", err)
		}
	}
	return nil
}
