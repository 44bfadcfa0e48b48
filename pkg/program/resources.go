package program

import (
	"fmt"

	"builder/pkg/job"

	"github.com/spf13/pflag"
)

// ResourceFlags are the flags that bound what builds use of a machine. Those of a
// client and those of a worker are the same.
type ResourceFlags struct {
	cpus, memory, disk string
	pids               int64
	noNetwork          bool
}

// mostPIDs is what Linux numbers, less one for what starts a build. It refuses more.
const mostPIDs = 1<<22 - 1

// Add adds them to f.
func (r *ResourceFlags) Add(f *pflag.FlagSet) {
	f.StringVar(&r.cpus, "cpus", "", "`number` of processors that a build may use, such as 2 or 0.5")
	f.StringVar(&r.memory, "memory", "", "`size` of the memory that a build may use, such as 512MiB")
	f.Int64Var(&r.pids, "pids", 0, "`number` of processes and threads that a build may have")
	f.StringVar(&r.disk, "disk", "", "`size` of what a build may have written at once, such as 10GiB")
	f.BoolVar(&r.noNetwork, "no-network", false, "leave a build nothing of the network but a loopback device")
}

// Resources are what was given; the error says what is not understood.
func (r *ResourceFlags) Resources() (job.Resources, error) {
	res := job.Resources{PIDs: r.pids, NoNetwork: r.noNetwork}
	if r.pids > mostPIDs {
		return res, fmt.Errorf("--pids %d: no system has so many: use %d at most", r.pids, mostPIDs)
	}
	for _, f := range []struct {
		name, text string
		parse      func(string) (int64, error)
		to         *int64
	}{
		{"cpus", r.cpus, job.ParseCPUs, &res.CPUs},
		{"memory", r.memory, job.ParseSize, &res.Memory},
		{"disk", r.disk, job.ParseSize, &res.Disk},
	} {
		if f.text == "" {
			continue
		}
		var err error
		if *f.to, err = f.parse(f.text); err != nil {
			return res, fmt.Errorf("--%s: %w", f.name, err)
		}
	}
	return res, res.Check()
}
