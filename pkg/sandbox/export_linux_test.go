package sandbox

import (
	"time"

	"builder/pkg/job"
)

// FindCgroups is findCgroups, for a /proc/self that a test has written.
func FindCgroups(proc string) (*cgroups, error) { return findCgroups(proc) }

// Can tells whether processors and memory can be bounded.
func (c *cgroups) Can() (cpus, memory error) { return c.can(cpuController), c.can(memoryController) }

// Make makes the groups of a build, and returns what its supervisor is told.
func (c *cgroups) Make(name string, res job.Resources) (*cgroup, []string, string, error) {
	g, err := c.make(name, res)
	if err != nil {
		return nil, nil, "", err
	}
	return g, g.joined().Tasks, g.joined().Unified, nil
}

// OutOfMemory is outOfMemory.
func (g *cgroup) OutOfMemory() bool { return g.outOfMemory() }

// Exact reports whether p goes by exact times.
func Exact(p *Plain) bool { return p.exact }

// SetAge sets how old the directories of a place were when it was made of them, and that
// times are not exact.
func SetAge(p Place, age time.Duration) {
	pl := p.(*place)
	pl.sandbox.exact = false
	pl.used = pl.spare.parts[2].changed.Add(age) // the last one made
}
