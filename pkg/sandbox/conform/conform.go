// Package conform is what every kind of sandbox is held to, as tests: [Run] runs
// them over one kind, in the tests of its package.
//
//	var kind = conform.Kind{Name: "plain", Open: ..., Promises: ...}
//
//	func TestMain(m *testing.M) { conform.Main(m, kind) }
//	func TestConformance(t *testing.T) { conform.Run(t, kind) }
//
// It knows a kind by its interface, by what it promises, and by what it leaves on
// the machine. What only one kind does is tested beside it. The scripts need a
// POSIX shell and what busybox has, and nothing else of the place.
package conform

import (
	"io"
	"strings"
	"testing"

	"builder/pkg/sandbox"
)

// Kind is a kind of sandbox, or one configuration of it.
type Kind struct {
	// Name tells the kinds of one test binary apart.
	Name string
	// Open makes the sandbox of a worker. It is called in other processes, too, which
	// are killed: they have this one's environment, so what Open needs of a test is
	// put there (t.Setenv).
	Open func(Site) (Box, error)
	// Promises are what the kind keeps on this machine.
	Promises Promises
	// Builds is how many builds in a row leave nothing; 0 for 200. With less than 40, fewer
	// workers are killed as well.
	Builds int
	// Except are the tests that it can not pass, each with the reason. They are named as
	// Go names them: "stop/is_stopped".
	Except map[string]string
	// Machine lists what the machine has of that worker beyond what the suite looks at
	// itself (see Look): containers, snapshots, datasets, jails. nil means nothing.
	Machine func(Site) ([]string, error)
}

// Box is a sandbox that was made for a test.
type Box interface {
	sandbox.Sandbox
	io.Closer
}

// Site is where a worker makes its places.
type Site struct {
	Dir   string // of this worker alone; made
	ID    string // the worker's, a uuid; its first 8 octets are in every name that is made
	Slots int    // builds at once, and places that may be prepared ahead; 0 to do no more than sweep
}

// Promises are what a kind keeps; what it does not promise it must refuse.
type Promises struct {
	CPUs, Memory, PIDs, Disk, NoNetwork bool // as in job.Resources
	// Private is a /tmp of its own, and no sight of files and processes of other
	// builds.
	Private bool
	// Kept is that Place.Keep works: the command that it returns takes -c COMMAND.
	Kept bool
}

// tests are all of them, over one sandbox where they need no other one.
var tests = []struct {
	name string
	run  func(*suite, *testing.T)
}{
	{"exit", (*suite).exit},
	{"environment", (*suite).environment},
	{"console", (*suite).console},
	{"artifacts", (*suite).artifacts},
	{"many artifacts", (*suite).manyArtifacts},
	{"large artifacts", (*suite).largeArtifacts},
	{"devices", (*suite).devices},
	{"leftovers", (*suite).leftovers},
	{"stop", (*suite).stop},
	{"stopped before its start", (*suite).stoppedBefore},
	{"destroy", (*suite).destroy},
	{"used once", (*suite).usedOnce},
	{"refused", (*suite).refused},
	{"pids", (*suite).pids},
	{"memory", (*suite).memory},
	{"disk", (*suite).disk},
	{"cpus", (*suite).cpus},
	{"no network", (*suite).noNetwork},
	{"private", (*suite).private},
	{"sweep", (*suite).sweep},
	{"again", (*suite).again},
	{"keep", (*suite).keep},
	{"killed worker", (*suite).killedWorker},
	{"leaks", (*suite).leaks},
}

// Run runs the tests over a kind, on a machine where it works.
func Run(t *testing.T, kind Kind) {
	t.Helper()
	s := &suite{kind: kind, site: newSite(t), root: t.Name() + "/"}
	before := s.baseline(t, s.site)
	s.box = s.open(t, s.site)
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) { test.run(s, t) })
	}
	if err := s.box.Close(); err != nil {
		t.Error(err)
	}
	s.settle(t, s.site, before)
}

// test is t.Run for what may be excepted.
func (s *suite) test(t *testing.T, name string, run func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		if why := s.kind.Except[strings.TrimPrefix(t.Name(), s.root)]; why != "" {
			t.Logf("not held to this: %s", why)
			return
		}
		run(t)
	})
}
