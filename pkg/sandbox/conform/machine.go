package conform

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Machine is what a machine has of one worker.
type Machine struct {
	Files     []string // below its directory
	Mounts    []string // where, that are below its directory or have its name
	Cgroups   []string // directories that have its name
	Processes []string // whose command line or environment has its directory or name
	Further   []string // see Kind.Machine
}

// Look looks what a machine has of a worker. Other workers do not count: tests run
// beside each other.
func Look(kind Kind, site Site) (m Machine, err error) {
	ours := func(text string) bool {
		return strings.Contains(text, site.Dir+"/") || strings.Contains(text, site.ID[:8])
	}
	err = filepath.WalkDir(site.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != site.Dir {
			m.Files = append(m.Files, path)
		}
		return nil // it may be changing
	})
	if err != nil {
		return m, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil && !os.IsNotExist(err) {
		return m, err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && ours(line) {
			m.Mounts = append(m.Mounts, fields[4])
		}
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && ours(entry.Name()) {
			m.Cgroups = append(m.Cgroups, path)
		}
		return nil // it may be gone, or not there at all
	})
	if err != nil {
		return m, err
	}
	for _, pid := range processes() {
		for _, of := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, of))
			if err == nil && pid != os.Getpid() && ours(string(text)) {
				command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // gone, perhaps
				m.Processes = append(m.Processes, strings.TrimSpace(string(command)))
				break
			}
		}
	}
	if kind.Machine != nil {
		m.Further, err = kind.Machine(site)
		slices.Sort(m.Further)
	}
	return m, err
}

// processes are the numbers of all processes.
func processes() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil // not Linux
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// marked are the processes whose environment holds the variable. (A zombie has
// none, so it does not count.)
func marked(variable string) (found []int) {
	for _, pid := range processes() {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && bytes.Contains(environ, []byte(variable+"\x00")) {
			found = append(found, pid)
		}
	}
	return found
}

// children are the direct children of a process, zombies too.
func children(parent int) (found []int) {
	for _, pid := range processes() {
		if fields := stat(pid); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			found = append(found, pid)
		}
	}
	return found
}

// alive tells whether a process exists and is more than a zombie.
func alive(pid int) bool {
	fields := stat(pid)
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// stat is what proc_pid_stat(5) has after the command: state, parent, ...
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[max(0, bytes.LastIndexByte(text, ')')+1):]))
}
