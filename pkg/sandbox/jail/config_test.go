package jail_test

import (
	"net/netip"
	"strings"
	"testing"

	"builder/pkg/sandbox/jail"
)

// TestCheck: settings that do not go together are refused, with what is wrong.
func TestCheck(t *testing.T) {
	fit := jail.Config{Dir: "/var/db/w", Worker: "0123456789", Snapshot: "zroot/jails/base@clean"}
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	for _, test := range []struct {
		name   string
		change func(*jail.Config)
		want   string
	}{
		{"fit", func(*jail.Config) {}, ""},
		{"archive", func(c *jail.Config) { c.Snapshot, c.Base = "", "/base.txz" }, ""},
		{"alias", func(c *jail.Config) {
			c.Network = jail.Network{Interface: "lo1", Addresses: prefixes("127.0.2.2/32", "fd00::2/128")}
		}, ""},
		{"neither", func(c *jail.Config) { c.Snapshot = "" }, "either a ZFS snapshot or a tar archive"},
		{"both", func(c *jail.Config) { c.Base = "/base.txz" }, "either a ZFS snapshot or a tar archive"},
		{"no snapshot", func(c *jail.Config) { c.Snapshot = "zroot/jails" }, "no snapshot"},
		{"pool", func(c *jail.Config) { c.Snapshot = "zroot@clean" }, "nothing beside the pool"},
		{"pool, with a parent", func(c *jail.Config) { c.Snapshot, c.Parent = "zroot@clean", "zroot/builds" }, ""},
		{"quote", func(c *jail.Config) { c.Dir = `/var/"` }, "without white space, quotes"},
		{"relative", func(c *jail.Config) { c.Dir = "var" }, "absolute path"},
		{"rule set", func(c *jail.Config) { c.Ruleset = -1 }, "devfs rule set -1"},
		{"negative", func(c *jail.Config) { c.Warm = -1 }, "too few"},
		{"two networks", func(c *jail.Config) { c.Network = jail.Network{None: true, Interface: "lo1"} }, "none, an interface or a bridge"},
		{"no addresses", func(c *jail.Config) { c.Network = jail.Network{Bridge: "bridge0"} }, "needs addresses"},
		{"no interface", func(c *jail.Config) { c.Network = jail.Network{Addresses: prefixes("10.0.0.2/24")} }, "addresses need one"},
		{"no length", func(c *jail.Config) {
			c.Network = jail.Network{Bridge: "bridge0", Addresses: prefixes("10.0.0.2/32")}
		}, "length of its network"},
		{"one number", func(c *jail.Config) {
			c.Network = jail.Network{Bridge: "bridge0", Addresses: prefixes("10.0.0.2/8", "10.1.0.2/8")}
		}, "there twice, or too much like another"},
		{"gateway", func(c *jail.Config) { c.Network = jail.Network{Gateway: netip.MustParseAddr("10.0.0.1")} }, "a gateway needs a bridge"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := fit
			test.change(&conf)
			err := conf.Check()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
