package jail

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// connection is what one jail has of the network.
type connection struct {
	Network
	address netip.Prefix // not valid if it needs none
}

// own tells whether the jail has a network stack of its own.
func (c connection) own() bool { return c.None || c.Bridge != "" }

// conf is what the jail's configuration says about it, see jail(8).
func (c connection) conf() []string {
	switch {
	case c.None:
		return []string{"vnet"}
	case c.Bridge != "":
		return []string{"vnet", `vnet.interface = "` + unit(c.address.Addr()) + `b"`}
	case c.address.Addr().Is4():
		return []string{`ip4.addr = "` + c.address.Addr().String() + `"`, "ip6 = disable"}
	case c.address.IsValid():
		return []string{`ip6.addr = "` + c.address.Addr().String() + `"`, "ip4 = disable"}
	}
	return []string{"ip4 = inherit", "ip6 = inherit"}
}

// inside is what is to be done in the jail.
func (c connection) inside() [][]string {
	if !c.own() {
		return nil
	}
	commands := [][]string{interfaceAddress("lo0", netip.MustParsePrefix("127.0.0.1/8"))}
	if c.Bridge != "" {
		commands = append(commands, interfaceAddress(unit(c.address.Addr())+"b", c.address))
	}
	if c.Gateway.IsValid() {
		commands = append(commands, defaultRoute(c.Gateway))
	}
	return commands
}

// connect chooses what the build of a place has of the network, until disconnect.
func (s *Sandbox) connect(name string, none bool) (connection, error) {
	if none {
		return connection{Network: Network{None: true}}, nil
	}
	c := connection{Network: s.conf.Network}
	if len(c.Addresses) == 0 {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.addresses) == 0 {
		return c, fmt.Errorf("all %d addresses are in use: give as many as there are slots", len(c.Addresses))
	}
	c.address, s.addresses = s.addresses[0], s.addresses[1:]
	s.given[name] = c.address
	return c, nil
}

func (s *Sandbox) disconnect(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.given[name]; ok {
		s.addresses = append(s.addresses, a)
		delete(s.given, name)
	}
}

// plug changes the host's network for a place. What is to be undone is noted first,
// and only what was not there before.
func (s *Sandbox) plug(ctx context.Context, name string, c connection) error {
	a := c.address.Addr()
	switch {
	case c.Interface != "":
		there, err := s.hasAddress(ctx, c.Interface, a)
		if err != nil || there {
			return err // an address that is always there stays
		}
		if err := s.note(name, "alias "+c.Interface+" "+a.String()); err != nil {
			return err
		}
		return s.do(ctx, aliasAdd(c.Interface, a))
	case c.Bridge != "":
		pair := unit(a)
		there, err := s.hasInterface(ctx, pair+"a")
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("interface %sa is there already, and not ours: use another address than %v", pair, a)
		}
		if err := s.note(name, "epair "+pair); err != nil {
			return err
		}
		if err := s.do(ctx, epairCreate(pair, name)); err != nil {
			return err
		}
		return s.do(ctx, bridgeAdd(c.Bridge, pair))
	}
	return nil
}

func (s *Sandbox) note(name, text string) error {
	return os.WriteFile(filepath.Join(s.dir(name), "network"), []byte(text+"\n"), 0o600)
}

// unplug undoes what was noted for a place, if anything was.
func (s *Sandbox) unplug(ctx context.Context, name string) error {
	file := filepath.Join(s.dir(name), "network")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.undo(ctx, strings.Fields(string(text))); err != nil {
		return err
	}
	return os.Remove(file)
}

func (s *Sandbox) undo(ctx context.Context, noted []string) error {
	switch {
	case len(noted) == 0: // the machine went down while it was written, before the change
		return nil
	case len(noted) == 2 && noted[0] == "epair":
		there, err := s.hasInterface(ctx, noted[1]+"a")
		if err != nil || !there {
			return err
		}
		return s.do(ctx, epairDestroy(noted[1]))
	case len(noted) == 3 && noted[0] == "alias":
		a, err := netip.ParseAddr(noted[2])
		if err != nil {
			return err
		}
		there, err := s.hasAddress(ctx, noted[1], a)
		if err != nil || !there {
			return err
		}
		return s.do(ctx, aliasRemove(noted[1], a))
	}
	return fmt.Errorf("undoing network %q: it is not understood", noted)
}

func (s *Sandbox) hasInterface(ctx context.Context, name string) (bool, error) {
	out, err := s.run(ctx, interfaceNames()...)
	return slices.Contains(strings.Fields(out), name), err
}

// hasAddress looks for "inet ADDRESS netmask ..." or "inet6 ADDRESS%scope prefixlen ...".
func (s *Sandbox) hasAddress(ctx context.Context, iface string, a netip.Addr) (bool, error) {
	out, err := s.run(ctx, interfaceShow(iface)...)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != family(a) {
			continue
		}
		text, _, _ := strings.Cut(fields[1], "/")
		if found, err := netip.ParseAddr(text); err == nil && found.WithZone("") == a {
			return true, nil
		}
	}
	return false, err
}
