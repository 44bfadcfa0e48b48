package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"builder/pkg/program"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/jail"

	"github.com/spf13/pflag"
)

// jails is the kind with a jail for every build.
type jails struct {
	conf             jail.Config
	network, gateway string
	addresses        []string
}

func (*jails) name() string  { return "jail" }
func (*jails) about() string { return "a FreeBSD jail" }

func (k *jails) addFlags(f *pflag.FlagSet) {
	f.StringVar(&k.conf.Snapshot, "jail-snapshot", "", "jail: `snapshot` that is cloned for every build, DATASET@NAME")
	f.StringVar(&k.conf.Parent, "jail-parent", "", "jail: `dataset` in which clones are made (default: beside the snapshot's own)")
	f.StringVar(&k.conf.Base, "jail-base", "", "jail: tar `archive` that is extracted for every build, where there is no ZFS")
	f.StringVar(&k.conf.User, "jail-user", jail.DefaultUser, "jail: `user` of the jail who runs scripts")
	f.StringVar(&k.network, "jail-network", "host", "jail: `network`: host, none, alias:INTERFACE or bridge:INTERFACE")
	f.StringArrayVar(&k.addresses, "jail-address", nil, "jail: `address` for one build at a time, with alias and bridge; repeatable")
	f.StringVar(&k.gateway, "jail-gateway", "", "jail: `address` of the router, with bridge")
	f.StringVar(&k.conf.Resolv, "jail-resolv", "/etc/resolv.conf", "jail: `file` that becomes /etc/resolv.conf; empty for none")
	f.IntVar(&k.conf.Ruleset, "jail-ruleset", jail.DefaultRuleset, "jail: `number` of the devfs rule set")
}

// config makes the settings out of the flags.
func (k *jails) config() (jail.Config, error) {
	conf := k.conf
	way, iface, _ := strings.Cut(k.network, ":")
	switch {
	case k.network == "host":
	case k.network == "none":
		conf.Network.None = true
	case way == "alias" && iface != "":
		conf.Network.Interface = iface
	case way == "bridge" && iface != "":
		conf.Network.Bridge = iface
	default:
		return conf, program.Usage(fmt.Errorf("--jail-network %q is unknown: use host, none, alias:INTERFACE or bridge:INTERFACE", k.network))
	}
	for _, text := range k.addresses {
		address, err := prefix(text)
		if err != nil {
			return conf, program.Usage(fmt.Errorf("--jail-address %q: use an address as in 127.0.2.1, or 10.0.0.2/24 with a bridge", text))
		}
		conf.Network.Addresses = append(conf.Network.Addresses, address)
	}
	if k.gateway != "" {
		var err error
		if conf.Network.Gateway, err = netip.ParseAddr(k.gateway); err != nil {
			return conf, program.Usage(fmt.Errorf("--jail-gateway %q: use an address as in 10.0.0.1", k.gateway))
		}
	}
	return conf, nil
}

// prefix reads an address, with the length of its network or without.
func prefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	address, err := netip.ParseAddr(text)
	return netip.PrefixFrom(address, address.BitLen()), err
}

func (k *jails) check(ctx context.Context, s site) []sandbox.Finding {
	conf, err := k.config()
	if n := len(conf.Network.Addresses); err == nil && n > 0 && n < s.slots {
		err = program.Usage(fmt.Errorf("%d addresses are given, and there are %d slots: name one --jail-address for each", n, s.slots))
	}
	if err != nil {
		return []sandbox.Finding{{What: "settings", Err: err}}
	}
	return jail.Examine(ctx, conf)
}

func (k *jails) open(ctx context.Context, s site) (closingSandbox, error) {
	conf, err := k.config()
	if err != nil {
		return nil, err
	}
	conf.Dir, conf.Worker, conf.Warm = s.dir.Builds(), s.dir.ID.String(), s.warm
	box, err := jail.New(ctx, conf)
	if err != nil {
		return nil, err
	}
	box.Stock(ctx)
	return box, nil
}
