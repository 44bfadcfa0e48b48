package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// shims are the processes of containerd that watch containers of ours, by name. One is
// forgotten when a worker is killed while its task is made or removed.
func shims(prefix string) (map[string]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		name := value(args, "-id")
		if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") || value(args, "-namespace") != Namespace || !strings.HasPrefix(name, prefix) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, fmt.Errorf("looking for processes: %w", err)
		}
		found[name] = pid
	}
	return found, nil
}

// value is what follows a flag.
func value(args []string, flag string) string {
	i := slices.Index(args, flag)
	if i < 0 || i+1 == len(args) {
		return ""
	}
	return args[i+1]
}

// killStrays kills the shim of a container that containerd does not know any more, and
// what is in its cgroup.
func killStrays(name string) error {
	watchers, err := shims(name)
	if err != nil {
		return err
	}
	var pids []int
	if pid, ok := watchers[name]; ok {
		pids = append(pids, pid)
	}
	for _, hierarchy := range hierarchies() {
		text, err := os.ReadFile(filepath.Join(hierarchy, name, "cgroup.procs"))
		if err != nil {
			continue // there is none
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 { // 0 is outside of our pid namespace
				pids = append(pids, pid)
			}
		}
	}
	var failures []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			failures = append(failures, fmt.Errorf("killing process %d of container %s: %w", pid, name, err))
		}
	}
	return errors.Join(failures...)
}
