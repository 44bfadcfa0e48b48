package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"builder/pkg/job"

	"golang.org/x/sys/unix"
)

// controller is the part of control groups that bounds one thing.
type controller string

const (
	cpuController    controller = "cpu"
	memoryController controller = "memory"
)

// cgroups is where this process makes control groups: below its own, in the
// hierarchy of version 2 and, for the controllers that are not there, in those of
// version 1.
type cgroups struct {
	first   map[controller]string // directories of version 1
	unified string                // directory of version 2, "" without
	mounts  []string              // of all that were found
}

// findCgroups reads what the kernel tells in proc, /proc/self.
func findCgroups(proc string) (*cgroups, error) {
	own, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %w", err)
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %w", err)
	}
	paths := make(map[string]string) // by controller, "" for version 2
	for line := range strings.Lines(string(own)) {
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 {
			for name := range strings.SplitSeq(fields[1], ",") {
				paths[name] = fields[2]
			}
		}
	}
	c := &cgroups{first: make(map[controller]string)}
	for line := range strings.Lines(string(mounts)) {
		c.addMount(line, paths)
	}
	return c, nil
}

// addMount reads a line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
func (c *cgroups) addMount(line string, paths map[string]string) {
	left, right, _ := strings.Cut(line, " - ")
	at, kind := strings.Fields(left), strings.Fields(right)
	if len(at) < 5 || len(kind) < 3 {
		return
	}
	dir := func(name string) (string, bool) {
		path, found := paths[name]
		if name == "" && filepath.Base(path) == workerGroup {
			path = filepath.Dir(path) // of a worker that has started this one
		}
		below, err := filepath.Rel(at[3], path) // a container sees a part of the hierarchy
		return filepath.Join(at[4], below), found && err == nil && !strings.HasPrefix(below, "..")
	}
	switch kind[0] {
	case "cgroup2":
		if path, found := dir(""); found {
			c.unified = path
			c.mounts = append(c.mounts, at[4])
		}
	case "cgroup":
		options := strings.Split(kind[2], ",")
		for _, name := range []controller{cpuController, memoryController} {
			if path, found := dir(string(name)); found && slices.Contains(options, string(name)) {
				c.first[name] = path
				c.mounts = append(c.mounts, at[4])
			}
		}
	}
}

// can tells why something can not be bounded, nil if it can.
func (c *cgroups) can(what controller) error {
	dir := c.first[what]
	if dir == "" {
		known, err := os.ReadFile(filepath.Join(c.unified, "cgroup.controllers"))
		if c.unified == "" || err != nil || !slices.Contains(strings.Fields(string(known)), string(what)) {
			return fmt.Errorf("the control group of the worker has no %s controller (systemd: Delegate=yes)", what)
		}
		dir = c.unified
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("the control group %s can not be written to (systemd: Delegate=yes): %w", dir, err)
	}
	if dir != c.unified {
		return nil
	}
	if err := c.delegate(what); err != nil {
		return fmt.Errorf("the control group %s can not have bounded ones below it (systemd: a unit of its own, Delegate=yes): %w", dir, err)
	}
	return nil
}

// cgroup is the control groups of one build, all of one name.
type cgroup struct {
	dirs    map[controller]string // of the controllers in use; of version 2 all the same
	unified string
}

// make makes the groups for a build that is bound by res. Nothing is left on error.
func (c *cgroups) make(name string, res job.Resources) (*cgroup, error) {
	g := &cgroup{dirs: make(map[controller]string)}
	for what, bound := range map[controller]int64{
		cpuController: res.CPUs, memoryController: res.Memory,
	} {
		if bound == 0 {
			continue
		}
		if err := c.add(g, what, name, bound); err != nil {
			return nil, errors.Join(fmt.Errorf("making control group: %w", err), g.remove())
		}
	}
	return g, nil
}

func (c *cgroups) add(g *cgroup, what controller, name string, bound int64) error {
	parent, first := c.first[what]
	if !first {
		parent = c.unified
		if err := c.delegate(what); err != nil {
			return err
		}
		g.unified = filepath.Join(parent, name)
	}
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	g.dirs[what] = dir
	for _, s := range settings(what, first, bound) {
		if err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0o644); err != nil {
			if s.optional && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
	}
	return nil
}

type setting struct {
	file, value string
	optional    bool // a kernel without the file needs it not
}

// cpuPeriod is the kernel's own, in microseconds.
const cpuPeriod = 100000

// settings are what bounds a group, in the order in which they must be written.
// Memory that is swapped out counts as well.
func settings(what controller, first bool, bound int64) []setting {
	number := strconv.FormatInt(bound, 10)
	quota := strconv.FormatInt(bound*cpuPeriod/1000, 10)
	switch {
	case what == memoryController && first:
		return []setting{{"memory.limit_in_bytes", number, false}, {"memory.memsw.limit_in_bytes", number, true}}
	case what == memoryController:
		return []setting{{"memory.max", number, false}, {"memory.swap.max", "0", true}}
	case first:
		return []setting{{"cpu.cfs_period_us", strconv.Itoa(cpuPeriod), false}, {"cpu.cfs_quota_us", quota, false}}
	default:
		return []setting{{"cpu.max", quota + " " + strconv.Itoa(cpuPeriod), false}}
	}
}

// workerGroup is where the worker itself goes: a group of version 2 with processes
// in it can not have bounded groups below.
const workerGroup = "builder-worker"

// delegate has a controller of version 2 bound the groups below our own.
func (c *cgroups) delegate(what controller) error {
	if err := c.vacate(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.unified, "cgroup.subtree_control"), []byte("+"+string(what)), 0o644)
}

// vacate moves this process and those below it out of the group in which they were
// started. The kernel asks for that late: a controller of processors is had at once,
// and then nothing can be started in the groups that it bounds.
func (c *cgroups) vacate() error {
	if _, err := os.Stat(filepath.Join(c.unified, "cgroup.type")); errors.Is(err, fs.ErrNotExist) {
		return nil // the root of the hierarchy, which may have both
	}
	const looks = 100 // some may be forked meanwhile
	for range looks {
		text, err := os.ReadFile(filepath.Join(c.unified, "cgroup.procs"))
		inside := strings.Fields(string(text))
		if err != nil || len(inside) == 0 {
			return err
		}
		ours := append(descendants(), os.Getpid())
		inside = slices.DeleteFunc(inside, func(text string) bool {
			pid, err := strconv.Atoi(text)
			return err != nil || !slices.Contains(ours, pid)
		})
		if len(inside) == 0 {
			return errors.New("there are other processes than this worker's in it")
		}
		if err := c.retire(inside); err != nil {
			return err
		}
	}
	return errors.New("processes begin faster than they can be moved")
}

// retire moves processes to the group of the worker.
func (c *cgroups) retire(pids []string) error {
	leaf := filepath.Join(c.unified, workerGroup)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, pid := range pids {
		err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0o644)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// joined is what a supervisor needs to start the script in the groups.
func (g *cgroup) joined() joined {
	j := joined{Unified: g.unified}
	for _, dir := range g.dirs {
		if dir != g.unified {
			j.Tasks = append(j.Tasks, filepath.Join(dir, "tasks"))
		}
	}
	return j
}

// join has the next process that this thread starts be in the groups. leave takes
// the thread itself out of them again.
func (c confinement) join(sys *syscall.SysProcAttr) (_ *syscall.SysProcAttr, leave func(), err error) {
	var left []string
	group := -1
	leave = func() {
		for _, tasks := range left {
			// Its memory counts for the whole process, which never moved; at worst one
			// process fewer is left for the build.
			os.WriteFile(tasks, []byte("0"), 0o644) //nolint:errcheck // see above
		}
		if group >= 0 {
			unix.Close(group) //nolint:errcheck // nothing was written to it
		}
	}
	for _, tasks := range c.Groups.Tasks {
		if err := os.WriteFile(tasks, []byte("0"), 0o644); err != nil {
			leave()
			return nil, nil, err
		}
		left = append(left, filepath.Join(filepath.Dir(filepath.Dir(tasks)), "tasks"))
	}
	if c.Groups.Unified != "" {
		if group, err = unix.Open(c.Groups.Unified, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			leave()
			return nil, nil, err
		}
		sys.UseCgroupFD, sys.CgroupFD = true, group
	}
	return sys, leave, nil
}

// outOfMemory tells whether the kernel has killed for want of memory.
func (g *cgroup) outOfMemory() bool {
	dir := g.dirs[memoryController]
	if dir == "" {
		return false
	}
	file := "memory.oom_control"
	if dir == g.unified {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if count, found := bytes.CutPrefix(line, []byte("oom_kill ")); found {
			return string(bytes.TrimSpace(count)) != "0"
		}
	}
	return false
}

// remove kills what is in the groups, and removes them.
func (g *cgroup) remove() error {
	var failures []error
	for _, dir := range slices.Compact(slices.Sorted(maps.Values(g.dirs))) {
		failures = append(failures, removeCgroup(dir))
	}
	return errors.Join(failures...)
}

func removeCgroup(dir string) error {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Since(start) > killLimit:
			return fmt.Errorf("removing control group %s: %w", dir, err)
		}
		if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o644) == nil {
			continue
		}
		killAll(func() []int { return membersOf(dir) })
	}
}

// membersOf are the processes in a group.
func membersOf(dir string) []int {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sweep removes the groups whose names begin so, wherever the worker's own was when
// it made them, but for those in use.
func (c *cgroups) sweep(prefix string, uses func(name string) bool) error {
	var failures []error
	for _, mount := range slices.Compact(slices.Sorted(slices.Values(c.mounts))) {
		err := filepath.WalkDir(mount, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // it went meanwhile
			case err != nil:
				return err
			case !entry.IsDir():
			case strings.HasPrefix(entry.Name(), prefix) && !uses(entry.Name()):
				failures = append(failures, removeCgroup(path))
				return fs.SkipDir
			}
			return nil
		})
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}
