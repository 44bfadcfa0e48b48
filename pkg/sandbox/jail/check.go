package jail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"builder/pkg/sandbox"
)

// abilities are what the system may lack; nil errors mean that it does not.
type abilities struct {
	racct error // accounting of resources, for rctl(8)
	vnet  error // network stacks of jails' own
}

// rules tells whether there can be rules of rctl(8).
func (a abilities) rules() bool { return a.racct == nil }

func able(ctx context.Context, conf Config) abilities {
	return abilities{
		racct: enabled(ctx, conf, "kern.racct.enable", "put kern.racct.enable=1 into /boot/loader.conf and start the machine again"),
		vnet:  enabled(ctx, conf, "kern.features.vimage", "the kernel lacks the option VIMAGE, which GENERIC has"),
	}
}

func enabled(ctx context.Context, conf Config, name, help string) error {
	out, err := conf.Run(ctx, sysctl(name)...)
	if err != nil {
		return fmt.Errorf("%w; %s", err, help)
	}
	if value := strings.TrimSpace(out); value != "1" {
		return fmt.Errorf("%s is %s: %s", name, value, help)
	}
	return nil
}

// Examine looks for everything that jails with these settings need. Bounds that can
// not be kept are not among it: Enforces tells of them.
func Examine(ctx context.Context, conf Config) []sandbox.Finding {
	conf.Worker, conf.Dir = "check", "/" // of no interest here
	if conf.Run == nil {
		conf.Run = Run
	}
	if conf.Ruleset == 0 {
		conf.Ruleset = DefaultRuleset
	}
	if err := conf.Check(); err != nil {
		return []sandbox.Finding{{What: "settings", Err: err, Help: "see --jail-snapshot, --jail-base and --jail-network"}}
	}
	system, err := conf.Run(ctx, sysctl("kern.ostype")...)
	if system = strings.TrimSpace(system); err == nil && system != "FreeBSD" {
		err = fmt.Errorf("this is %s", system)
	}
	if err != nil {
		return []sandbox.Finding{{What: "FreeBSD", Err: err, Help: "choose another kind of isolation"}}
	}
	found := []sandbox.Finding{{What: "root"}}
	if os.Geteuid() != 0 {
		found[0].Err, found[0].Help = errors.New("the worker is not root"), "only root makes jails; builds run as --jail-user"
	}
	for _, command := range conf.commands() {
		_, err := exec.LookPath(command)
		found = append(found, sandbox.Finding{What: "command " + command, Err: err, Help: "it is part of FreeBSD; see that PATH has /sbin and /usr/sbin"})
	}
	ask := func(what, help string, argv []string) {
		out, err := conf.Run(ctx, argv...)
		if err == nil && strings.TrimSpace(out) == "" {
			err = errors.New("it is empty")
		}
		found = append(found, sandbox.Finding{What: what, Err: err, Help: help})
	}
	if conf.Snapshot != "" {
		ask("snapshot "+conf.Snapshot, "make it with zfs snapshot, or poudriere jail -c", zfsGet("guid", conf.Snapshot))
		ask("dataset "+conf.parent(), "make it with zfs create", zfsChildren(conf.parent()))
	} else {
		_, err := os.Stat(conf.Base)
		found = append(found, sandbox.Finding{What: "archive " + conf.Base, Err: err, Help: "fetch base.txz of the release"})
	}
	ask(fmt.Sprintf("devfs rule set %d", conf.Ruleset),
		"without it jails see all devices: sysrc devfs_load_rulesets=YES, service devfs restart", devfsRules(conf.Ruleset))
	if iface := conf.Network.Interface + conf.Network.Bridge; iface != "" {
		ask("interface "+iface, "make it with sysrc cloned_interfaces+="+iface+", service netif cloneup", interfaceShow(iface))
	}
	if conf.Network.None || conf.Network.Bridge != "" {
		found = append(found, sandbox.Finding{What: "network stacks of jails' own", Err: able(ctx, conf).vnet, Help: "use another --jail-network"})
	}
	return found
}

// commands are those that are needed with these settings.
func (c Config) commands() []string {
	names := []string{"jail", "jls", "jexec", "rctl", "dmesg", "sysctl", "devfs", "mount", "umount", "ifconfig"}
	if c.Snapshot != "" {
		return append(names, "zfs")
	}
	return append(names, "tar", "chflags")
}
