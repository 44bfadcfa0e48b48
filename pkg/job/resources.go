package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Resources bound what a build may use of its machine. A zero one is not bounded,
// or by its worker only. Which of them can be enforced depends on the worker's
// kind of isolation; one that can not be is refused, never ignored.
type Resources struct {
	CPUs   int64 // thousandths of a processor
	Memory int64 // octets, swap included
	PIDs   int64 // processes and threads at once
	Disk   int64 // octets that the build may have written at once
	// NoNetwork leaves nothing of the network but a loopback device.
	NoNetwork bool
}

// The smallest that a script can start with.
const (
	minCPUs   = 10
	minMemory = 4 << 20
	minDisk   = 1 << 20
)

// mostCPUs is more than any machine has; kernels refuse numbers much beyond.
const mostCPUs = 1e6

// Check tells whether r may be a job's.
func (r Resources) Check() error {
	switch {
	case r.CPUs < 0 || r.Memory < 0 || r.PIDs < 0 || r.Disk < 0:
		return fmt.Errorf("a limit is negative: %+v", r)
	case r.CPUs != 0 && r.CPUs < minCPUs:
		return fmt.Errorf("%v of a processor is too little: use %v or more", float64(r.CPUs)/1000, float64(minCPUs)/1000)
	case r.Memory != 0 && r.Memory < minMemory:
		return fmt.Errorf("%d octets of memory are too few: use %d or more", r.Memory, minMemory)
	case r.Disk != 0 && r.Disk < minDisk:
		return fmt.Errorf("%d octets of disk are too few: use %d or more", r.Disk, minDisk)
	}
	return nil
}

// Within is what holds for a build of a job with r on a worker that allows no more
// than most: the smaller of both where both set one.
func (r Resources) Within(most Resources) Resources {
	return Resources{
		CPUs: smaller(r.CPUs, most.CPUs), Memory: smaller(r.Memory, most.Memory),
		PIDs: smaller(r.PIDs, most.PIDs), Disk: smaller(r.Disk, most.Disk),
		NoNetwork: r.NoNetwork || most.NoNetwork,
	}
}

// smaller is the smaller of those that are set.
func smaller(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// ParseCPUs reads a number of processors such as 2 or 0.5.
func ParseCPUs(text string) (thousandths int64, err error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n > mostCPUs {
		return 0, fmt.Errorf("%q processors are not understood: use a positive number such as 2 or 0.5", text)
	}
	return int64(math.Round(n * 1000)), nil
}

// Exhausted is the result of a build that needed more than Memory.
func (r Resources) Exhausted() Result {
	return Failure(OutOfMemory, "out of memory, limit %s", FormatSize(r.Memory))
}

// String lists what is set, and is empty if nothing is.
func (r Resources) String() string {
	var parts []string
	if r.CPUs != 0 {
		parts = append(parts, "cpus "+strconv.FormatFloat(float64(r.CPUs)/1000, 'f', -1, 64))
	}
	if r.Memory != 0 {
		parts = append(parts, "memory "+FormatSize(r.Memory))
	}
	if r.PIDs != 0 {
		parts = append(parts, "pids "+strconv.FormatInt(r.PIDs, 10))
	}
	if r.Disk != 0 {
		parts = append(parts, "disk "+FormatSize(r.Disk))
	}
	if r.NoNetwork {
		parts = append(parts, "no network")
	}
	return strings.Join(parts, ", ")
}
