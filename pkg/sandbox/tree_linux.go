package sandbox

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// becomeReaper makes this process the parent of every descendant that loses its
// own.
func becomeReaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// closeOnExec keeps descriptors from first on from every process that is
// executed; the worker may have been started with some that it knows nothing of.
func closeOnExec(first uint) error {
	const all = ^uint(0) >> 32
	err := unix.CloseRange(first, all, unix.CLOSE_RANGE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) { // before Linux 5.11
		for fd := int(first); fd < 1024; fd++ {
			unix.CloseOnExec(fd)
		}
		return nil
	}
	return err
}

// signalTree sends a signal to all descendants, once. They are frozen meanwhile,
// so that a child just being made gets it too, and go on afterwards, also those
// that were stopped before, so that they can heed it.
func signalTree(sig unix.Signal) {
	found := freeze(descendants)
	for _, pid := range found {
		unix.Kill(pid, sig) //nolint:errcheck // it died by itself, or is not ours to signal
	}
	for _, pid := range found {
		unix.Kill(pid, unix.SIGCONT) //nolint:errcheck // as above
	}
}

// killTree kills all descendants that it finds, and returns how many it found.
func killTree() int { return killAll(descendants) }

// killAll kills what find finds, and returns how many that were.
func killAll(find func() []int) int {
	found := freeze(find)
	for _, pid := range found {
		unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // it died by itself, or is not ours to kill
	}
	return len(found)
}

// freeze stops what find finds, until a look finds nothing new: a tree that forks
// faster than it is signalled does not get away.
func freeze(find func() []int) []int {
	const looks = 100 // some may not be ours to stop
	stopped := make(map[int]bool)
	var found []int
	for range looks {
		fresh := false
		found = find()
		for _, pid := range found {
			if !stopped[pid] {
				stopped[pid] = true
				fresh = true
				unix.Kill(pid, unix.SIGSTOP) //nolint:errcheck // it died by itself, or is not ours to stop
			}
		}
		if !fresh {
			break
		}
	}
	return found
}

// descendants are all processes below this one.
func descendants() []int {
	table := readTable()
	return below(table, table.children(os.Getpid()))
}

// orphans are the children of this process that it did not start itself, and
// everything below them. Those that it did start are in its own session, or are
// exempt; what was adopted from a supervisor never is, since a process can
// start a session but not join one.
func orphans(exempt func(pid int) bool) []int {
	table := readTable()
	self := os.Getpid()
	session, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	var roots []int
	for _, pid := range table.children(self) {
		if table[pid].session != session && !exempt(pid) {
			roots = append(roots, pid)
		}
	}
	return below(table, roots)
}

// processes is the process table, by number.
type processes map[int]process

type process struct{ parent, session int }

func (t processes) children(parent int) []int {
	var pids []int
	for pid, p := range t {
		if p.parent == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// below is roots and all their descendants.
func below(t processes, roots []int) []int {
	if len(roots) == 0 {
		return nil
	}
	byParent := make(map[int][]int, len(t))
	for pid, p := range t {
		byParent[p.parent] = append(byParent[p.parent], pid)
	}
	all := roots
	for i := 0; i < len(all); i++ {
		all = append(all, byParent[all[i]]...)
	}
	return all
}

// readTable reads /proc. A process that ends meanwhile is left out; one that
// begins meanwhile may be.
func readTable() processes {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil // without /proc the direct children die by PDEATHSIG only
	}
	defer shut(dir)
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	table := make(processes, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(stat); ok {
			table[pid] = p
		}
	}
	return table
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5): after the command in
// parentheses, which may itself contain any of them, come state, parent, group
// and session.
func parseStat(stat []byte) (process, bool) {
	_, rest, found := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(" "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 4 {
		return process{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return process{}, false
	}
	session, err := strconv.Atoi(string(fields[3]))
	return process{parent: parent, session: session}, err == nil
}
