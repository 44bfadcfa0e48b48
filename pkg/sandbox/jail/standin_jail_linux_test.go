package jail_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	parameter = regexp.MustCompile(`^(path|host\.hostname|devfs_ruleset|enforce_statfs|children\.max|securelevel|sysv(?:msg|sem|shm)|ip4|ip6|ip4\.addr|ip6\.addr|vnet\.interface) = (.+)$`)
	toggle    = regexp.MustCompile(`^(persist|exec\.clean|mount\.devfs|vnet)$`)
	rule      = regexp.MustCompile(`^jail:([^:]+):(pcpu:deny|memoryuse:(?:log|sigkill)|swapuse:(?:log|deny)|maxproc:deny|nthr:deny)=[1-9][0-9]*$`)
)

func (h host) jail(out io.Writer, args []string) error {
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
	for name, minor := range map[string]uint32{"null": 3, "zero": 5} {
		name = filepath.Join(dev, name)
		if err := unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
		if err := unix.Chmod(name, 0o666); err != nil {
			return err
		}
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

func (h host) jls(out io.Writer, args []string) error {
	if len(args) == 3 && args[0] == "-j" && args[2] == "name" {
		if h.find("jails", args[1]) == "" {
			return fmt.Errorf("jail %q not found", args[1])
		}
		fmt.Fprintln(out, args[1])
		return nil
	}
	if !slices.Equal(args, []string{"name"}) {
		return wrong("usage")
	}
	for _, line := range h.lines("jails") {
		if name, _, ok := strings.Cut(line, " "); ok {
			fmt.Fprintln(out, name)
		}
	}
	return nil
}

// jexec really runs the command, in a chroot.
func (h host) jexec(out io.Writer, args []string) error {
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
	if filepath.Base(os.Args[0]) != "jexec" {
		return wrong("%q within the worker", command)
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

func (h host) rctl(out io.Writer, args []string) error {
	switch {
	case h.find("kernel", "kern.racct.enable", "1") == "":
		return wrong("RACCT/RCTL present, but disabled; enable using kern.racct.enable=1 tunable")
	case len(args) == 0:
		fmt.Fprint(out, h.read("rules"))
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
