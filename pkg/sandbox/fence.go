package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"builder/pkg/job"
)

// Fence is what a [Plain] puts around a script besides a directory of its own.
//
// On Linux that is a supervisor in new namespaces, for this one build: the first of
// its processes, so that the kernel kills all others with it, with a /tmp and a
// /dev/shm of its own, and with nothing of the other places to be seen.
type Fence struct {
	// Worker is the id of the worker. What is made outside of the directory of
	// places has the first eight characters of it in its name.
	Worker string
	// Accounts are whom scripts run as, each for one build at a time: by their ids if
	// this process is root's, by sudo if not. None: as this process.
	Accounts []Account
}

// NewFenced returns a Plain that puts a fence around each script. Its Kind is
// "user" with accounts, "none" without. Else it is as [NewPlain] says, but that a
// supervisor started by sudo is not made ahead.
func NewFenced(root string, slots int, f Fence) (*Plain, error) {
	if len(f.Accounts) == 0 && !haveNamespaces {
		return nil, errNoNamespaces
	}
	fence := &fence{
		prefix: "builder-" + prefix(f.Worker) + "-", sudo: len(f.Accounts) > 0 && !privileged(),
		leases: make(chan *lease, len(f.Accounts)), accounts: len(f.Accounts) > 0, groups: make(map[string]bool),
	}
	seen := make(map[uint32]bool)
	for _, account := range f.Accounts {
		if seen[account.UID] {
			return nil, fmt.Errorf("account %s is named twice: a build kills all that another one of the same user leaves", account.Name)
		}
		seen[account.UID] = true
		fence.uid = account.UID
		fence.leases <- &lease{Account: account, dirty: true}
	}
	fence.cgroups, fence.noCgroups = findCgroups("/proc/self")
	return newPlain(root, slots, fence)
}

// fence is the state of a Fence.
type fence struct {
	root      string // of the places
	prefix    string // of names outside of it
	accounts  bool
	sudo      bool        // to get at them
	leases    chan *lease // of accounts that no build runs as
	uid       uint32      // of any of them
	cgroups   *cgroups
	noCgroups error // why there are none

	mu     sync.Mutex
	groups map[string]bool // names of control groups in use
}

// lease is an account, for the one build that has it.
type lease struct {
	Account
	dirty bool // processes of it may be alive
}

// guard is the part of a place that has to do with its fence.
type guard struct {
	fence *fence
	lease *lease // nil when it is not held, or there are no accounts
	group *cgroup
	name  string // of the group
}

func (f *fence) kind() string {
	if f.accounts {
		return "user"
	}
	return "none"
}

// enforces implements Sandbox.Enforces.
func (f *fence) enforces(res job.Resources) error {
	var missing []string
	refuse := func(what, why string) { missing = append(missing, what+": "+why) }
	for _, bound := range []struct {
		name string
		set  int64
		by   controller
	}{{"cpus", res.CPUs, cpuController}, {"memory", res.Memory, memoryController}} {
		if bound.set != 0 {
			if err := f.bounds(bound.by); err != nil {
				refuse(bound.name, err.Error())
			}
		}
	}
	if res.PIDs != 0 && !f.accounts {
		refuse("pids", "the kernel counts the processes of a user, and builds are of the worker's own (isolation user can)")
	}
	if res.Disk != 0 {
		if err := f.limitsDisk(); err != nil {
			refuse("disk", err.Error())
		}
	}
	if res.NoNetwork && !haveNamespaces {
		refuse("no network", errNoNamespaces.Error())
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w by isolation %s: %s", ErrUnenforced, f.kind(), strings.Join(missing, "; "))
	}
	return nil
}

// bounds tells why something can not be bounded by a control group.
func (f *fence) bounds(what controller) error {
	switch {
	case !f.accounts:
		return errors.New("a build of the worker's own user could leave its control group (isolation user can not)")
	case f.sudo:
		return errors.New("only a worker that is root's can put another user's process into a control group")
	case f.noCgroups != nil:
		return f.noCgroups
	}
	return f.cgroups.can(what)
}

// limitsDisk tells why the disk can not be bounded.
func (f *fence) limitsDisk() error {
	switch {
	case !f.accounts:
		return errors.New("a quota is of a user, and builds are of the worker's own (isolation user can)")
	case f.sudo:
		return errors.New("only a worker that is root's can set quotas")
	}
	return canLimitDisk(f.root, f.uid)
}

// take leases an account, and waits for one if there is none.
func (f *fence) take(ctx context.Context) (*lease, error) {
	if !f.accounts {
		return nil, nil
	}
	select {
	case l := <-f.leases:
		if err := f.clean(l); err != nil {
			f.leases <- l
			return nil, err
		}
		return l, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// clean kills what processes of an account there are, and lets the worker at its
// files in the places.
func (f *fence) clean(l *lease, places ...string) error {
	if !l.dirty && len(places) == 0 {
		return nil
	}
	if f.sudo {
		var dirs []string
		for _, dir := range places {
			if info, err := os.Lstat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
				continue // the account was never let in, see admit
			}
			p := place{dir: dir}
			dirs = append(dirs, p.output(), p.home(), p.temp())
		}
		if err := reclaimBySudo(l.Account, dirs...); err != nil {
			return err
		}
		l.dirty = false
		return nil
	}
	if n := killUser(l.UID); n > 0 {
		return fmt.Errorf("%w (%d of account %s)", ErrLeftover, n, l.Name)
	}
	var failures []error
	if canLimitDisk(f.root, l.UID) == nil {
		failures = append(failures, limitDisk(f.root, l.UID, 0))
	}
	for _, dir := range places {
		failures = append(failures, giveBack(dir, l.UID))
	}
	l.dirty = false
	return errors.Join(failures...)
}

// cleanFree cleans the accounts that no build runs as.
func (f *fence) cleanFree(places ...string) error {
	var failures []error
	for range len(f.leases) {
		select {
		case l := <-f.leases:
			l.dirty = true
			failures = append(failures, f.clean(l, places...))
			f.leases <- l
		default: // a build was faster
		}
	}
	return errors.Join(failures...)
}

// sweep removes what earlier processes have left behind: processes of accounts, and
// control groups. What is below the root is left to be removed.
func (f *fence) sweep(places []string) error {
	err := f.cleanFree(places...)
	if f.cgroups == nil {
		return err
	}
	return errors.Join(err, f.cgroups.sweep(f.prefix, func(name string) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.groups[name]
	}))
}

// start starts a supervisor for a build.
func (f *fence) start(l *lease) (*handle, error) {
	switch {
	case f.sudo:
		return startBySudo(l.Account)
	case haveNamespaces:
		return startSpaced()
	}
	return startSupervisor()
}

// admit makes the directories of a place that is complete the build's.
func (g *guard) admit(ctx context.Context, p *place) (err error) {
	if err := os.Chmod(p.temp(), 0o777|os.ModeSticky); err != nil {
		return err // it is /tmp as well
	}
	if g.lease, err = g.fence.take(ctx); err != nil || g.lease == nil {
		return err
	}
	if g.fence.sudo {
		// Only who knows the name gets in, and the other builds see none.
		return errors.Join(os.Chmod(p.dir, 0o711), os.Chmod(p.script(), 0o555),
			os.Chmod(p.output(), 0o777), os.Chmod(p.home(), 0o777))
	}
	uid, gid := int(g.lease.UID), int(g.lease.GID)
	if err := os.Chmod(p.dir, 0o500); err != nil {
		return err
	}
	for _, path := range []string{p.script(), p.output(), p.home(), p.temp(), p.dir} {
		if err := os.Lchown(path, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// confine makes what the build is confined by, and the request for its supervisor.
func (g *guard) confine(p *place) (request, error) {
	c := confinement{
		Hide: p.sandbox.root, Place: p.dir, Temp: p.temp(), Offline: p.spec.Resources.NoNetwork, Renounce: true,
	}
	if g.lease != nil {
		g.lease.dirty = true
		c.Processes = p.spec.Resources.PIDs
		if !g.fence.sudo {
			c.User = &g.lease.credential
		}
	}
	if res := p.spec.Resources; res.CPUs != 0 || res.Memory != 0 {
		g.name = g.fence.prefix + filepath.Base(p.spec.Build)
		g.fence.use(g.name, true)
		var err error
		if g.group, err = g.fence.cgroups.make(g.name, res); err != nil {
			g.fence.use(g.name, false)
			return request{}, err
		}
		c.Groups = g.group.joined()
	}
	if p.spec.Resources.Disk != 0 {
		if err := limitDisk(g.fence.root, g.lease.UID, p.spec.Resources.Disk); err != nil {
			return request{}, err
		}
	}
	body, err := json.Marshal(c)
	return request{kind: kindConfine, body: body}, err
}

func (f *fence) use(group string, used bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if used {
		f.groups[group] = true
	} else {
		delete(f.groups, group)
	}
}

// leave ends what the build was confined by: when it returns without an error nothing
// of it is alive, its files are the worker's, and its account is another build's.
func (g *guard) leave(p *place, exit *Exit) error {
	var failures []error
	if g.group != nil {
		exit.OutOfMemory = g.group.outOfMemory()
		failures = append(failures, g.group.remove())
		g.fence.use(g.name, false)
		g.group = nil
	}
	if g.lease != nil {
		if g.lease.dirty {
			failures = append(failures, g.fence.clean(g.lease, p.dir))
		}
		g.release()
	}
	return errors.Join(failures...)
}

// release lets another build have the account.
func (g *guard) release() {
	if g.lease != nil {
		g.fence.leases <- g.lease
		g.lease = nil
	}
}
