package container

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// groups is where systems have their cgroups.
const groups = "/sys/fs/cgroup"

// unified tells whether the system has version 2 only.
func unified() bool {
	_, err := os.Stat(filepath.Join(groups, "cgroup.controllers"))
	return err == nil
}

// hierarchies are the directories in which a container may have a cgroup: one in
// version 2, one for each controller in version 1.
func hierarchies() []string {
	if unified() {
		return []string{groups}
	}
	entries, err := os.ReadDir(groups)
	if err != nil {
		return nil // there are none, so nothing was made in them
	}
	var found []string
	for _, entry := range entries {
		if entry.IsDir() { // others are second names
			found = append(found, filepath.Join(groups, entry.Name()))
		}
	}
	return found
}

// killedForMemory tells whether the kernel ended a process of this container for
// memory. It is asked between the end and the removal of the container.
func killedForMemory(name string) bool {
	file := filepath.Join(groups, "memory", name, "memory.oom_control")
	if unified() {
		file = filepath.Join(groups, name, "memory.events")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "oom_kill" {
			n, err := strconv.ParseUint(fields[1], 10, 64)
			return err == nil && n > 0
		}
	}
	return false
}

// controllers are those that bounds need, and whether the system has them.
func controllers() map[string]bool {
	found := map[string]bool{"cpu": false, "memory": false, "pids": false}
	if unified() {
		text, err := os.ReadFile(filepath.Join(groups, "cgroup.controllers"))
		if err != nil {
			return found
		}
		for _, name := range strings.Fields(string(text)) {
			found[name] = true
		}
		return found
	}
	for name := range found {
		_, err := os.Stat(filepath.Join(groups, name, "cgroup.procs"))
		found[name] = err == nil
	}
	return found
}
