package jail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Runner runs a command of the system, found in PATH, and returns what it prints.
// Its error names the command and has what it printed on standard error.
type Runner func(ctx context.Context, argv ...string) (string, error)

// waitDelay is how long a command that was killed may keep its output open.
const waitDelay = 5 * time.Second

// Run is the Runner for real.
func Run(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &told, waitDelay
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what is told is also read
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		return "", commandError(argv, err, told.String())
	}
	return out.String(), nil
}

func commandError(argv []string, err error, told string) error {
	if told = strings.TrimSpace(told); told != "" {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, told)
	}
	return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
}

// The commands, each with the manual page (FreeBSD 14 and 15) that it rests on.
// scripts/freebsd/selftest.sh tries them all.

// jail(8): -f names the configuration, -c creates; -R removes a jail without
// reading a configuration, and kills what is in it as jail_remove(2) says.
func jailCreate(conf, name string) []string { return []string{"jail", "-f", conf, "-c", name} }
func jailRemove(name string) []string       { return []string{"jail", "-R", name} }

// jls(8): a parameter as argument has its value printed for every jail, one in a line.
func jailNames() []string { return []string{"jls", "name"} }

// jexec(8): -U takes a user of the jail. It changes the environment as login.conf(5)
// says, so that of the build is set inside, by env(1). That says 127 and 126 where
// execve(2) fails.
func jailRun(name, user string, env []string, command ...string) []string {
	argv := []string{"jexec", "-U", user, name, "/bin/sh", "-c", "cd " + insideOut + ` && exec env -i -- "$@"`, "sh"}
	return append(append(argv, env...), command...)
}

// jailRunEnv is jexec's own: it is the host's root.
func jailRunEnv() []string { return []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin"} }

// jexec(8), as root of the jail.
func jailConfigure(name string, command ...string) []string {
	return append([]string{"jexec", name}, command...)
}

// rctl(8): -a adds a rule, which may be for a jail that is not there yet; -r removes
// those that a filter matches; without arguments all rules are printed.
func rctlAdd(rule string) []string    { return []string{"rctl", "-a", rule} }
func rctlRemove(name string) []string { return []string{"rctl", "-r", "jail:" + name} }
func rctlRules() []string             { return []string{"rctl"} }

// dmesg(8): the action "log" of rctl(8) prints into the system message buffer.
func messages() []string { return []string{"dmesg"} }

// sysctl(8): -n prints the value alone; racct(4)'s kern.racct.enable, vnet(9)'s
// kern.features.vimage.
func sysctl(name string) []string { return []string{"sysctl", "-n", name} }

// devfs(8): prints the rules of a rule set.
func devfsRules(ruleset int) []string {
	return []string{"devfs", "rule", "-s", strconv.Itoa(ruleset), "show"}
}

// mount(8): -p prints as in fstab(5), in the order of mounting. umount(8): -f forces.
func mounts() []string             { return []string{"mount", "-p"} }
func unmount(path string) []string { return []string{"umount", "-f", path} }

// zfs-clone(8), zfs-mount(8), zfs-destroy(8), zfs-set(8), zfs-list(8). Some versions
// mount a clone that canmount=noauto has, and some do not: the property "mounted"
// tells. Destroying takes snapshots along that somebody made of every dataset.
func zfsClone(snapshot, dataset, mountpoint string) []string {
	return []string{"zfs", "clone", "-o", "canmount=noauto", "-o", "mountpoint=" + mountpoint, snapshot, dataset}
}
func zfsMount(dataset string) []string   { return []string{"zfs", "mount", dataset} }
func zfsDestroy(dataset string) []string { return []string{"zfs", "destroy", "-r", "-f", dataset} }
func zfsQuota(dataset string, size int64) []string {
	return []string{"zfs", "set", "quota=" + strconv.FormatInt(size, 10), dataset}
}

func zfsGet(property, dataset string) []string {
	return []string{"zfs", "get", "-H", "-p", "-o", "value", property, dataset}
}

func zfsChildren(parent string) []string {
	return []string{"zfs", "list", "-H", "-o", "name", "-t", "filesystem", "-r", "-d", "1", parent}
}

// tar(1): -p keeps modes and owners. chflags(1): a file with flags can not be removed.
func extract(archive, dir string) []string {
	return []string{"tar", "-x", "-p", "-f", archive, "-C", dir}
}
func clearFlags(dir string) []string { return []string{"chflags", "-R", "0", dir} }

// ifconfig(8). What is said after "create" is done to the new interface. Of a pair,
// which epair(4) calls epairNa and epairNb, destroying one end destroys both.
func interfaceNames() []string           { return []string{"ifconfig", "-l"} }
func interfaceShow(name string) []string { return []string{"ifconfig", name} }
func aliasAdd(iface string, a netip.Addr) []string {
	return []string{"ifconfig", iface, family(a), hostPrefix(a), "alias"}
}

func aliasRemove(iface string, a netip.Addr) []string {
	return []string{"ifconfig", iface, family(a), a.String(), "-alias"}
}

func epairCreate(pair, description string) []string {
	return []string{"ifconfig", pair, "create", "description", description, "up"}
}
func epairDestroy(pair string) []string { return []string{"ifconfig", pair + "a", "destroy"} }
func bridgeAdd(bridge, pair string) []string {
	return []string{"ifconfig", bridge, "addm", pair + "a"}
}

// ifconfig(8) and route(8), for jailConfigure.
func interfaceAddress(iface string, p netip.Prefix) []string {
	return []string{"ifconfig", iface, family(p.Addr()), p.String(), "up"}
}

func defaultRoute(gateway netip.Addr) []string {
	return []string{"route", "-n", "add", "-" + family(gateway), "default", gateway.String()}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

func hostPrefix(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
