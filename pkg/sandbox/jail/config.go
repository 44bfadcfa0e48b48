package jail

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"builder/pkg/job"
)

// Config says how jails are made.
type Config struct {
	// Dir is where places have their directories. It is made if it is missing, and
	// no other process may use it.
	Dir string
	// Worker is the id of the worker: its first 8 characters are in every name.
	Worker string
	// Snapshot is what is cloned for a build, as in "zroot/poudriere/jails/14@clean".
	// Clones are made in Parent; "" means beside the snapshot's own file system.
	Snapshot, Parent string
	// Base is a tar archive that is extracted for a build, where there is no ZFS.
	// Either it or Snapshot is set.
	Base string
	// User runs scripts; it is one of the jail's. "" means DefaultUser.
	User string
	// Network says what of it builds have.
	Network Network
	// Resolv is copied to /etc/resolv.conf of a jail that has a network; "" for none.
	Resolv string
	// Ruleset is the devfs(8) rule set; 0 means DefaultRuleset.
	Ruleset int
	// Warm is how many places are prepared ahead.
	Warm int
	// Run runs commands; nil means Run.
	Run Runner
}

const (
	// DefaultUser owns nothing in FreeBSD.
	DefaultUser = "nobody"
	// DefaultRuleset is devfsrules_jail of /etc/defaults/devfs.rules.
	DefaultRuleset = 4
)

// Network is what builds have of the network. The zero one is the host's own, with
// all its addresses.
type Network struct {
	// None leaves a loopback device.
	None bool
	// Interface gets an alias from Addresses for the time of a build, and the jail
	// has that address only.
	Interface string
	// Bridge gets a pair of epair(4) for the time of a build, and the jail a network
	// stack of its own, with an address from Addresses and a route to Gateway.
	Bridge  string
	Gateway netip.Addr
	// Addresses are one for each build at a time; the length of the network is needed
	// with Bridge only. Nobody else may use them.
	Addresses []netip.Prefix
}

// Check tells whether the settings go together.
func (c Config) Check() error {
	switch {
	case (c.Snapshot == "") == (c.Base == ""):
		return errors.New("name either a ZFS snapshot or a tar archive to make jails of")
	case c.Snapshot != "" && !strings.Contains(c.Snapshot, "@"):
		return fmt.Errorf("%q is no snapshot: it must be DATASET@NAME", c.Snapshot)
	case c.Snapshot != "" && c.parent() == "":
		return fmt.Errorf("there is nothing beside the pool of %q: say in which dataset clones are made", c.Snapshot)
	case strings.ContainsAny(c.Dir, "\"\\\n \t$") || !filepath.IsAbs(c.Dir):
		return fmt.Errorf("directory %q: use an absolute path without white space, quotes, $ and backslash", c.Dir)
	case c.Ruleset < 0:
		return fmt.Errorf("devfs rule set %d: use a number as in devfs.rules(5)", c.Ruleset)
	case c.Warm < 0:
		return fmt.Errorf("%d places ahead are too few", c.Warm)
	}
	return c.Network.check()
}

func (n Network) check() error {
	ways := 0
	for _, set := range []bool{n.None, n.Interface != "", n.Bridge != ""} {
		if set {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("the network is either none, an interface or a bridge")
	case (n.Interface != "" || n.Bridge != "") != (len(n.Addresses) > 0):
		return errors.New("an interface or bridge needs addresses, and addresses need one of them")
	case n.Gateway.IsValid() && n.Bridge == "":
		return errors.New("a gateway needs a bridge")
	}
	seen := map[string]bool{}
	for _, a := range n.Addresses {
		switch {
		case seen[unit(a.Addr())]:
			return fmt.Errorf("address %v is there twice, or too much like another one", a)
		case n.Bridge != "" && a.IsSingleIP():
			return fmt.Errorf("address %v needs the length of its network, as in 10.0.0.2/24", a)
		}
		seen[unit(a.Addr())] = true
	}
	return nil
}

// parent is the dataset in which clones are made.
func (c Config) parent() string {
	if c.Parent != "" {
		return c.Parent
	}
	dataset, _, _ := strings.Cut(c.Snapshot, "@")
	slash := strings.LastIndexByte(dataset, '/')
	return dataset[:max(slash, 0)]
}

// prefix begins every name that this worker gives.
func (c Config) prefix() string { return "builder-" + c.Worker[:min(8, len(c.Worker))] + "-" }

// unit is the name of the pair for an address: interfaces are numbered up to 32767,
// and the last 15 bits of an address differ where addresses of one network do.
func unit(a netip.Addr) string {
	b := a.AsSlice()
	return "epair" + strconv.Itoa(int(b[len(b)-2]&0x7f)<<8|int(b[len(b)-1]))
}

// jailConf is the configuration of one jail, see jail(8) for its parameters.
func jailConf(name, root string, ruleset int, network []string) string {
	lines := []string{
		`path = "` + root + `"`,
		`host.hostname = "builder"`,
		"persist",
		"exec.clean",
		"mount.devfs",
		"devfs_ruleset = " + strconv.Itoa(ruleset),
		"enforce_statfs = 2",
		"children.max = 0",
		"securelevel = 3",
		"sysvmsg = new",
		"sysvsem = new",
		"sysvshm = new",
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q {\n", name)
	for _, line := range append(lines, network...) {
		b.WriteString("\t" + line + ";\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// rules are those of rctl(8) that keep a jail within bounds. Memory that is resident
// can not be refused, only punished; swap that is reserved can be. Both are told to
// the message buffer, where exhausted finds it.
func rules(name string, res job.Resources) []string {
	var found []string
	add := func(rule string, amount int64) {
		found = append(found, fmt.Sprintf("jail:%s:%s=%d", name, rule, amount))
	}
	if res.CPUs != 0 {
		add("pcpu:deny", int64(math.Ceil(float64(res.CPUs)/10))) // hundredths
	}
	if res.Memory != 0 {
		for _, rule := range []string{"memoryuse:log", "memoryuse:sigkill", "swapuse:log", "swapuse:deny"} {
			add(rule, res.Memory)
		}
	}
	if res.PIDs != 0 {
		add("maxproc:deny", res.PIDs)
		add("nthr:deny", res.PIDs)
	}
	return found
}

// exhausted tells whether the message buffer has that a jail needed too much memory:
//
//	rctl: rule "jail:NAME:memoryuse:log=1" matched by pid 1 (sh), uid 65534, jail NAME
func exhausted(buffer, name string) bool {
	for _, resource := range []string{"memoryuse", "swapuse"} {
		if strings.Contains(buffer, `rule "jail:`+name+":"+resource+":") {
			return true
		}
	}
	return false
}
