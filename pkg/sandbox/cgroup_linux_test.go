package sandbox_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
)

// TestCgroupVersions makes groups in directories that look like those of each version:
// a machine has one of them, and a worker must do with any.
func TestCgroupVersions(t *testing.T) {
	const (
		second = "30 23 0:26 / ROOT/cg rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
		first  = "31 23 0:27 / ROOT/memory rw - cgroup cgroup rw,memory\n32 23 0:28 / ROOT/cpu rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
	)
	tests := []struct {
		name, cgroup, mounts string
		controllers          string // that version 2 has
		dirs                 []string
		want                 map[string]string // files, and what is written
		tasks                []string
		unified              string
	}{
		{
			"version 2", "0::/system.slice/b.service\n", second, "cpuset cpu memory pids",
			[]string{"cg/system.slice/b.service"},
			map[string]string{
				"cg/system.slice/b.service/builder-x/cpu.max":         "50000 100000",
				"cg/system.slice/b.service/builder-x/memory.max":      "67108864",
				"cg/system.slice/b.service/builder-x/memory.swap.max": "0",
			},
			nil, "cg/system.slice/b.service/builder-x",
		},
		{
			"version 1", "4:memory:/own\n3:cpu,cpuacct:/\n1:name=systemd:/\n", first, "",
			[]string{"memory/own", "cpu"},
			map[string]string{
				"cpu/builder-x/cpu.cfs_period_us":                  "100000",
				"cpu/builder-x/cpu.cfs_quota_us":                   "50000",
				"memory/own/builder-x/memory.limit_in_bytes":       "67108864",
				"memory/own/builder-x/memory.memsw.limit_in_bytes": "67108864",
			},
			[]string{"cpu/builder-x/tasks", "memory/own/builder-x/tasks"},
			"",
		},
		{
			"both", "4:memory:/own\n0::/two\n", strings.SplitAfter(first, "\n")[0] + second, "cpu",
			[]string{"memory/own", "cg/two"},
			map[string]string{
				"cg/two/builder-x/cpu.max":                         "50000 100000",
				"memory/own/builder-x/memory.limit_in_bytes":       "67108864",
				"memory/own/builder-x/memory.memsw.limit_in_bytes": "67108864",
			},
			[]string{"memory/own/builder-x/tasks"},
			"cg/two/builder-x",
		},
		{
			"started by a worker", "0::/unit/builder-worker\n", second, "cpu memory",
			[]string{"cg/unit"},
			map[string]string{"cg/unit/builder-x/cpu.max": "50000 100000"},
			nil, "cg/unit/builder-x",
		},
		{
			"in a container", "0::/box/7/w\n", strings.Replace(second, " / ", " /box/7 ", 1), "cpu memory",
			[]string{"cg/w"},
			map[string]string{
				"cg/w/builder-x/cpu.max":         "50000 100000",
				"cg/w/builder-x/memory.max":      "67108864",
				"cg/w/builder-x/memory.swap.max": "0",
			},
			nil, "cg/w/builder-x",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range test.dirs {
				write(t, test.controllers, root, dir, "cgroup.controllers")
			}
			write(t, test.cgroup, root, "proc", "cgroup")
			write(t, strings.ReplaceAll(test.mounts, "ROOT", root), root, "proc", "mountinfo")
			groups, err := sandbox.FindCgroups(filepath.Join(root, "proc"))
			if err != nil {
				t.Fatal(err)
			}
			if cpus, memory := groups.Can(); cpus != nil || memory != nil {
				t.Fatalf("cpus %v, memory %v", cpus, memory)
			}
			group, tasks, unified, err := groups.Make("builder-x", job.Resources{CPUs: 500, Memory: 64 << 20})
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for file := range test.want {
				got[file] = readFile(t, root, file)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			for i := range tasks {
				tasks[i] = strings.TrimPrefix(tasks[i], root+"/")
			}
			slices.Sort(tasks)
			if diff := cmp.Diff(test.tasks, tasks); diff != "" {
				t.Error(diff)
			}
			if unified = strings.TrimPrefix(unified, root+"/"); unified != test.unified {
				t.Errorf("unified %q", unified)
			}
			if group.OutOfMemory() {
				t.Error("out of memory before it ran")
			}
			for _, file := range []string{"memory.events", "memory.oom_control"} {
				for _, dir := range test.dirs {
					write(t, "under_oom 0\noom_kill 2\n", root, dir, "builder-x", file)
				}
			}
			if !group.OutOfMemory() {
				t.Error("not out of memory")
			}
		})
	}
}

// TestCgroupMissing: without a controller a bound is refused, with the reason.
func TestCgroupMissing(t *testing.T) {
	root := t.TempDir()
	write(t, "0::/\n", root, "proc", "cgroup")
	write(t, "30 23 0:26 / "+root+"/cg rw - cgroup2 cgroup2 rw\n", root, "proc", "mountinfo")
	write(t, "pids", root, "cg", "cgroup.controllers")
	groups, err := sandbox.FindCgroups(filepath.Join(root, "proc"))
	if err != nil {
		t.Fatal(err)
	}
	if cpus, memory := groups.Can(); cpus == nil || memory == nil || !strings.Contains(memory.Error(), "Delegate=yes") {
		t.Errorf("cpus %v, memory %v", cpus, memory)
	}
}

// TestCgroupShared: a group with processes of others in it can not have bounded ones
// below, and theirs are not moved.
func TestCgroupShared(t *testing.T) {
	root := t.TempDir()
	write(t, "0::/session\n", root, "proc", "cgroup")
	write(t, "30 23 0:26 / "+root+"/cg rw - cgroup2 cgroup2 rw\n", root, "proc", "mountinfo")
	write(t, "cpu memory", root, "cg/session/cgroup.controllers")
	write(t, "domain", root, "cg/session/cgroup.type")
	write(t, "1\n", root, "cg/session/cgroup.procs")
	groups, err := sandbox.FindCgroups(filepath.Join(root, "proc"))
	if err != nil {
		t.Fatal(err)
	}
	if cpus, memory := groups.Can(); cpus == nil || memory == nil || !strings.Contains(memory.Error(), "other processes") {
		t.Errorf("cpus %v, memory %v", cpus, memory)
	}
	if moved := readFile(t, root, "cg/session/builder-worker/cgroup.procs"); moved != "" {
		t.Errorf("moved: %q", moved)
	}
}

// write makes a file, and the directories that it needs.
func write(t testing.TB, text string, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readFile returns "" for a file that is not there.
func readFile(t testing.TB, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}
