package jail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"builder/pkg/sandbox/jail"

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
//	datasets     NAME MOUNTPOINT, of clones
//
// Names with "always" in their line are the machine's own.
type host string

// standIns are the commands. They check their arguments more strictly than the real
// ones do: nothing passes that was not thought of.
var standIns = map[string]func(host, io.Writer, []string) error{
	"jail": host.jail, "jls": host.jls, "jexec": host.jexec, "rctl": host.rctl, "ifconfig": host.ifconfig,
	"mount": host.mount, "umount": host.umount, "sysctl": host.sysctl, "dmesg": host.dmesg, "devfs": host.devfs,
	"chflags": host.chflags, "zfs": host.zfs,
}

// make makes a machine; with real ones in place of some stand-ins.
func (h host) make(t testing.TB, real ...string) {
	t.Helper()
	if err := os.Mkdir(string(h), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range standIns {
		if slices.Contains(real, name) {
			continue
		}
		if err := os.Symlink(self, filepath.Join(string(h), name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", string(h)+":"+os.Getenv("PATH"))
	h.write("kernel", "kern.ostype FreeBSD", "kern.racct.enable 1", "kern.features.vimage 1")
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
	// Who writes may be killed meanwhile.
	file := filepath.Join(string(h), name)
	if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o644), os.Rename(file+".new", file)); err != nil {
		panic(err)
	}
}

func (h host) add(name, line string) { h.write(name, append(h.lines(name), line)...) }

// record adds to the log, which grows long.
func (h host) record(line string) error {
	f, err := os.OpenFile(filepath.Join(string(h), "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

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

// beCommand is the main of a stand-in that was started as a command.
func beCommand(name string) error {
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return err
	}
	return host(filepath.Dir(program)).act(os.Stdout, name, os.Args[1:])
}

// call is a [jail.Runner] with the stand-ins in this process, which costs a hundredth
// of starting them.
func (h host) call(ctx context.Context, argv ...string) (string, error) {
	if standIns[argv[0]] == nil {
		return jail.Run(ctx, argv...)
	}
	var out strings.Builder
	if err := h.act(&out, argv[0], argv[1:]); err != nil {
		return "", fmt.Errorf("%s: exit status 1: %w", strings.Join(argv, " "), err)
	}
	return out.String(), nil
}

// act does what the command does, one at a time.
func (h host) act(out io.Writer, name string, args []string) error {
	lock, err := os.OpenFile(filepath.Join(string(h), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if err := h.record(strings.Join(append([]string{name}, args...), " ")); err != nil {
		return err
	}
	err = standIns[name](h, out, args)
	if wrong := new(usage); errors.As(err, &wrong) {
		h.add("complaints", fmt.Sprintf("%s %q: %v", name, args, err))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// has lists what the machine has for a worker; the machine's own does not count.
func (h host) has(worker string) (found []string) {
	for _, kind := range []string{"datasets", "jails", "rules", "interfaces", "addresses"} {
		for _, line := range h.lines(kind) {
			if line != "" && !strings.Contains(line, "always") && (strings.Contains(line, worker[:8]) || !strings.Contains(line, "builder-")) {
				found = append(found, kind+" "+line)
			}
		}
	}
	return found
}

// usage is an error of the caller.
type usage struct{ string }

func (u *usage) Error() string { return u.string }

func wrong(format string, args ...any) error { return &usage{fmt.Sprintf(format, args...)} }
