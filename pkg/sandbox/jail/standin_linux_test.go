package jail_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// host is the directory of the stand-ins, and of what they know:
//
//	jails        NAME PATH [vnet] [INTERFACE]
//	rules        as rctl prints them
//	interfaces   NAME [DESCRIPTION]
//	addresses    INTERFACE ADDRESS
//	bridges      BRIDGE INTERFACE
//	messages     what dmesg prints
//	kernel       NAME VALUE, for sysctl
//	log          every command line
//	complaints   what was called wrongly
//	half         jail -c dies half way if it is there
//
// Names with "always" in their line are the machine's own.
type host string

// standIns are the commands. They check their arguments more strictly than the real
// ones do: nothing passes that was not thought of.
var standIns = map[string]func(host, []string) error{
	"jail": host.jail, "jls": host.jls, "jexec": host.jexec, "rctl": host.rctl, "ifconfig": host.ifconfig,
	"mount": host.mount, "umount": host.umount, "sysctl": host.sysctl, "dmesg": host.dmesg, "devfs": host.devfs,
	"chflags": host.chflags,
}

func (h host) make(t testing.TB) {
	t.Helper()
	if err := os.Mkdir(string(h), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range standIns {
		if err := os.Symlink(self, filepath.Join(string(h), name)); err != nil {
			t.Fatal(err)
		}
	}
	h.write("kernel", "kern.racct.enable 1", "kern.features.vimage 1")
	h.write("interfaces", "lo0 always", "lo1 always", "bridge0 always")
	h.write("addresses", "lo0 127.0.0.1 always")
}

func (h host) read(name string) string {
	text, err := os.ReadFile(filepath.Join(string(h), name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	return string(text)
}

func (h host) lines(name string) []string {
	return strings.Split(strings.TrimSuffix(h.read(name), "\n"), "\n")
}

func (h host) write(name string, lines ...string) {
	text := strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "\n")
	if text != "" {
		text += "\n"
	}
	if err := os.WriteFile(filepath.Join(string(h), name), []byte(text), 0o644); err != nil {
		panic(err)
	}
}

func (h host) add(name, line string) { h.write(name, append(h.lines(name), line)...) }

// find is the line that begins with these words, or "".
func (h host) find(name string, words ...string) string {
	for _, line := range h.lines(name) {
		if strings.HasPrefix(line+" ", strings.Join(words, " ")+" ") {
			return line
		}
	}
	return ""
}

// drop removes the lines that begin with these words.
func (h host) drop(name string, words ...string) {
	h.write(name, slices.DeleteFunc(h.lines(name), func(line string) bool {
		return strings.HasPrefix(line+" ", strings.Join(words, " ")+" ")
	})...)
}

// beCommand is the main of a stand-in.
func beCommand(name string) error {
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return err
	}
	h := host(filepath.Dir(program))
	lock, err := os.OpenFile(filepath.Join(string(h), "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	h.add("log", strings.Join(append([]string{name}, os.Args[1:]...), " "))
	err = standIns[name](h, os.Args[1:])
	if wrong := new(usage); errors.As(err, &wrong) {
		h.add("complaints", fmt.Sprintf("%s %q: %v", name, os.Args[1:], err))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// usage is an error of the caller.
type usage struct{ string }

func (u *usage) Error() string { return u.string }

func wrong(format string, args ...any) error { return &usage{fmt.Sprintf(format, args...)} }

var (
	parameter = regexp.MustCompile(`^(path|host\.hostname|devfs_ruleset|enforce_statfs|children\.max|securelevel|sysv(?:msg|sem|shm)|ip4|ip6|ip4\.addr|ip6\.addr|vnet\.interface) = (.+)$`)
	toggle    = regexp.MustCompile(`^(persist|exec\.clean|mount\.devfs|vnet)$`)
	rule      = regexp.MustCompile(`^jail:([^:]+):(pcpu:deny|memoryuse:(?:log|sigkill)|swapuse:(?:log|deny)|maxproc:deny|nthr:deny)=[1-9][0-9]*$`)
)

func (h host) jail(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "-R":
		return h.jailRemove(args[1])
	case len(args) == 4 && args[0] == "-f" && args[2] == "-c":
		return h.jailCreate(args[1], args[3])
	}
	return wrong("usage")
}

func (h host) jailCreate(file, name string) error {
	settings, err := parseConf(file, name)
	if err != nil {
		return err
	}
	root := settings["path"]
	if info, err := os.Stat(root); err != nil || !info.IsDir() || !filepath.IsAbs(root) {
		return wrong("path %q is no directory", root)
	}
	if h.find("jails", name) != "" {
		return wrong("jail %q already exists", name)
	}
	for key, value := range map[string]string{"children.max": "0", "enforce_statfs": "2", "persist": "", "mount.devfs": "", "exec.clean": "", "devfs_ruleset": "4"} {
		if got, ok := settings[key]; !ok || got != value {
			return wrong("%s is %q", key, got)
		}
	}
	dev := filepath.Join(root, "dev")
	if err := unix.Mount("devfs", dev, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		return err
	}
	if err := unix.Chmod(filepath.Join(dev, "null"), 0o666); err != nil {
		return err
	}
	if h.read("half") != "" {
		return errors.New("jail_set: Cannot allocate memory")
	}
	for _, key := range []string{"ip4.addr", "ip6.addr"} {
		if address, ok := settings[key]; ok && !strings.Contains(h.read("addresses")+" ", " "+address) {
			return wrong("no interface has address %s", address)
		}
	}
	line := name + " " + root
	if _, ok := settings["vnet"]; ok {
		line += " vnet"
	}
	if iface, ok := settings["vnet.interface"]; ok {
		if h.find("interfaces", iface) == "" {
			return wrong("there is no interface %s", iface)
		}
		line += " " + iface
	}
	h.add("jails", line)
	return nil
}

// parseConf reads what jail.conf(5) would, as far as we write it.
func parseConf(file, name string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	settings := map[string]string{}
	scanner := bufio.NewScanner(f)
	if !scanner.Scan() || scanner.Text() != strconv.Quote(name)+" {" {
		return nil, wrong("the configuration begins %q", scanner.Text())
	}
	for scanner.Scan() && scanner.Text() != "}" {
		line, ended := strings.CutSuffix(strings.TrimPrefix(scanner.Text(), "\t"), ";")
		found := parameter.FindStringSubmatch(line)
		switch {
		case !ended:
			return nil, wrong("line %q", line)
		case toggle.MatchString(line):
			settings[line] = ""
		case found != nil:
			settings[found[1]] = strings.Trim(found[2], `"`)
		default:
			return nil, wrong("unknown parameter %q", line)
		}
	}
	return settings, scanner.Err()
}

func (h host) jailRemove(name string) error {
	line := strings.Fields(h.find("jails", name))
	if line == nil {
		return wrong("%q not found", name)
	}
	for pids := inside(line[1]); len(pids) > 0; pids = inside(line[1]) {
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL) // or it is gone
		}
	}
	h.drop("jails", name)
	return nil
}

// inside are the processes whose root is below a directory.
func inside(dir string) (pids []int) {
	roots, err := filepath.Glob("/proc/[0-9]*/root")
	if err != nil {
		panic(err)
	}
	for _, link := range roots {
		if root, err := os.Readlink(link); err == nil && (root == dir || strings.HasPrefix(root, dir+"/")) {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h host) jls(args []string) error {
	if !slices.Equal(args, []string{"name"}) {
		return wrong("usage")
	}
	for _, line := range h.lines("jails") {
		if name, _, ok := strings.Cut(line, " "); ok {
			fmt.Println(name)
		}
	}
	return nil
}

// jexec really runs the command, in a chroot.
func (h host) jexec(args []string) error {
	user := "root"
	if len(args) > 2 && args[0] == "-U" {
		user, args = args[1], args[2:]
	}
	if len(args) < 2 {
		return wrong("usage")
	}
	line := strings.Fields(h.find("jails", args[0]))
	if line == nil {
		return wrong("jail %q not found", args[0])
	}
	command := args[1:]
	own := slices.Contains(line, "vnet")
	if command[0] == "ifconfig" || command[0] == "route" {
		return inJail(line, own, command)
	}
	runtime.LockOSThread()
	if own {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
	}
	passwd, err := os.ReadFile(filepath.Join(line[1], "etc/passwd"))
	if err != nil {
		return err
	}
	found := regexp.MustCompile(`(?m)^` + user + `:[^:]*:(\d+):(\d+):`).FindSubmatch(passwd)
	if found == nil {
		return wrong("%s: no such user", user)
	}
	uid, _ := strconv.Atoi(string(found[1]))
	gid, _ := strconv.Atoi(string(found[2]))
	for _, err := range []error{
		unix.Chroot(line[1]), unix.Chdir("/"), syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid),
	} {
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("execvp: %s: %w", command[0], unix.Exec(command[0], command, os.Environ()))
}

// inJail judges what is done to the network of a jail.
func inJail(line []string, own bool, command []string) error {
	iface := line[len(line)-1]
	switch text := strings.Join(command, " "); {
	case !own:
		return wrong("%s: the network is the host's", text)
	case text == "ifconfig lo0 inet 127.0.0.1/8 up":
	case regexp.MustCompile(`^ifconfig ` + iface + ` inet6? [0-9a-f.:]+/\d+ up$`).MatchString(text):
	case regexp.MustCompile(`^route -n add -inet6? default [0-9a-f.:]+$`).MatchString(text):
	default:
		return wrong("%s in a jail", text)
	}
	return nil
}

func (h host) rctl(args []string) error {
	switch {
	case h.find("kernel", "kern.racct.enable", "1") == "":
		return wrong("RACCT/RCTL present, but disabled; enable using kern.racct.enable=1 tunable")
	case len(args) == 0:
		fmt.Print(h.read("rules"))
	case len(args) == 2 && args[0] == "-a":
		if !rule.MatchString(args[1]) {
			return wrong("rule %q", args[1])
		}
		h.add("rules", args[1])
	case len(args) == 2 && args[0] == "-r" && strings.HasPrefix(args[1], "jail:"):
		kept := slices.DeleteFunc(h.lines("rules"), func(line string) bool { return strings.HasPrefix(line, args[1]+":") })
		if len(kept) == len(h.lines("rules")) {
			return wrong("failed to remove rule '%s': No such process", args[1])
		}
		h.write("rules", kept...)
	default:
		return wrong("usage")
	}
	return nil
}

func (h host) ifconfig(args []string) error {
	switch {
	case slices.Equal(args, []string{"-l"}):
		for _, line := range h.lines("interfaces") {
			name, _, _ := strings.Cut(line, " ")
			fmt.Print(name, " ")
		}
		fmt.Println()
		return nil
	case len(args) == 5 && args[1] == "create" && args[2] == "description" && args[4] == "up":
		if h.find("interfaces", args[0]+"a") != "" {
			return wrong("SIOCIFCREATE2: File exists")
		}
		h.add("interfaces", args[0]+"a "+args[3])
		h.add("interfaces", args[0]+"b")
		return nil
	}
	if len(args) == 0 || h.find("interfaces", args[0]) == "" {
		return wrong("interface %q does not exist", args)
	}
	switch {
	case len(args) == 1:
		fmt.Printf("%s: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> metric 0 mtu 16384\n", args[0])
		for _, line := range h.lines("addresses") {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == args[0] {
				fmt.Printf("\tinet %s netmask 0xffffffff\n", fields[1])
			}
		}
	case len(args) == 2 && args[1] == "destroy":
		pair := strings.TrimSuffix(args[0], "a")
		for _, end := range []string{"a", "b"} {
			h.drop("interfaces", pair+end)
		}
		h.write("bridges")
	case len(args) == 3 && args[1] == "addm":
		if h.find("interfaces", args[2]) == "" {
			return wrong("no interface %s", args[2])
		}
		h.add("bridges", args[0]+" "+args[2])
	case len(args) == 4 && args[1] == "inet" && args[3] == "alias" && strings.HasSuffix(args[2], "/32"):
		h.add("addresses", args[0]+" "+strings.TrimSuffix(args[2], "/32"))
	case len(args) == 4 && args[1] == "inet" && args[3] == "-alias":
		if h.find("addresses", args[0], args[2]) == "" {
			return wrong("SIOCDIFADDR: Can't assign requested address")
		}
		h.drop("addresses", args[0], args[2])
	default:
		return wrong("usage")
	}
	return nil
}

type mountpoint struct{ from, at, kind string }

// mountpoints are what is mounted, in the order of mounting.
func mountpoints() (found []mountpoint) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		panic(err)
	}
	for line := range bytes.Lines(text) {
		before, after, _ := strings.Cut(string(line), " - ")
		fields, further := strings.Fields(before), strings.Fields(after)
		found = append(found, mountpoint{further[1], fields[4], further[0]})
	}
	return found
}

func (h host) mount(args []string) error {
	if !slices.Equal(args, []string{"-p"}) {
		return wrong("usage")
	}
	for _, m := range mountpoints() {
		fmt.Printf("%s\t\t%s\t\t%s\trw\t0 0\n", m.from, m.at, m.kind)
	}
	return nil
}

func (h host) umount(args []string) error {
	if len(args) == 2 && args[0] == "-l" { // it is Debian's zfs that asks
		return unix.Unmount(args[1], unix.MNT_DETACH)
	}
	if len(args) != 2 || args[0] != "-f" {
		return wrong("usage")
	}
	if !slices.ContainsFunc(mountpoints(), func(m mountpoint) bool { return m.at == args[1] }) {
		return wrong("%s: not a file system root directory", args[1])
	}
	return unix.Unmount(args[1], unix.MNT_FORCE|unix.MNT_DETACH)
}

func (h host) sysctl(args []string) error {
	if len(args) != 2 || args[0] != "-n" {
		return wrong("usage")
	}
	_, value, ok := strings.Cut(h.find("kernel", args[1]), " ")
	if !ok {
		return fmt.Errorf("unknown oid '%s'", args[1])
	}
	fmt.Println(value)
	return nil
}

func (h host) dmesg(args []string) error {
	if len(args) > 0 {
		return wrong("usage")
	}
	fmt.Print(h.read("messages"))
	return nil
}

func (h host) devfs(args []string) error {
	if !slices.Equal(args, []string{"rule", "-s", "4", "show"}) {
		return wrong("usage")
	}
	fmt.Println("100 include 1")
	return nil
}

func (h host) chflags(args []string) error {
	if len(args) != 3 || args[0] != "-R" || args[1] != "0" {
		return wrong("usage")
	}
	_, err := os.Stat(args[2])
	return err
}
