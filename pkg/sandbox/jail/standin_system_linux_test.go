package jail_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (h host) ifconfig(out io.Writer, args []string) error {
	switch {
	case slices.Equal(args, []string{"-l"}):
		for _, line := range h.lines("interfaces") {
			name, _, _ := strings.Cut(line, " ")
			fmt.Fprint(out, name, " ")
		}
		fmt.Fprintln(out)
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
		fmt.Fprintf(out, "%s: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> metric 0 mtu 16384\n", args[0])
		for _, line := range h.lines("addresses") {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == args[0] {
				fmt.Fprintf(out, "\tinet %s netmask 0xffffffff\n", fields[1])
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

func (h host) mount(out io.Writer, args []string) error {
	if !slices.Equal(args, []string{"-p"}) {
		return wrong("usage")
	}
	for _, m := range mountpoints() {
		fmt.Fprintf(out, "%s\t\t%s\t\t%s\trw\t0 0\n", m.from, m.at, m.kind)
	}
	return nil
}

func (h host) umount(out io.Writer, args []string) error {
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

func (h host) sysctl(out io.Writer, args []string) error {
	if len(args) != 2 || args[0] != "-n" {
		return wrong("usage")
	}
	_, value, ok := strings.Cut(h.find("kernel", args[1]), " ")
	if !ok {
		return fmt.Errorf("unknown oid '%s'", args[1])
	}
	fmt.Fprintln(out, value)
	return nil
}

func (h host) dmesg(out io.Writer, args []string) error {
	if len(args) > 0 {
		return wrong("usage")
	}
	fmt.Fprint(out, h.read("messages"))
	return nil
}

func (h host) devfs(out io.Writer, args []string) error {
	if !slices.Equal(args, []string{"rule", "-s", "4", "show"}) {
		return wrong("usage")
	}
	fmt.Fprintln(out, "100 include 1")
	return nil
}

func (h host) chflags(out io.Writer, args []string) error {
	if len(args) != 3 || args[0] != "-R" || args[1] != "0" {
		return wrong("usage")
	}
	_, err := os.Stat(args[2])
	return err
}
