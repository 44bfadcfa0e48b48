package jail_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/jail"

	"github.com/google/go-cmp/cmp"
)

// TestRun runs scripts, from preparing to destroying. newMachine sees to it that
// nothing is left.
func TestRun(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	for _, test := range []struct {
		name, script string
		code         int
		signal       int
		console      string
	}{
		{
			"another user, in its place", "id -u; id -g; pwd; hostname >/dev/null; echo $HOME $TMPDIR $BUILDER_OUTPUT", 0, 0,
			"65534\n65534\n/builder/out\n/builder/home /builder/tmp /builder/out\n",
		},
		{"environment", "env | sort", 0, 0, "BUILDER_BUILD=b\nBUILDER_JOB=one\nBUILDER_OUTPUT=/builder/out\nBUILDER_PLATFORM=freebsd\n" +
			"HOME=/builder/home\nLANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/builder/out\nSHLVL=1\nTMPDIR=/builder/tmp\nTZ=UTC\n"},
		{"exit", "echo x; exit 3", 3, 0, "x\n"},
		{"signal", "kill -9 $$", 0, 9, ""},
		{"interpreter", "#!/bin/cat\nhello\n", 0, 0, "#!/bin/cat\nhello\n"},
		{"no interpreter", "#!/no/such\n", 127, 0, "env: can't execute '/builder/script': No such file or directory\n"},
		{"script can not be written", "echo x >/builder/script", 1, 0, "/builder/script: line 1: can't create /builder/script: Permission denied\n"},
		{"name servers", "cat /etc/resolv.conf", 0, 0, "nameserver 192.0.2.1\n"},
		{"only what is in the snapshot", "ls /; ls /builder", 0, 0, "bin\nbuilder\ndev\netc\nroot\ntmp\nhome\nout\nscript\ntmp\n"},
		{"what is left running", "setsid sleep 1000 & (setsid setsid sleep 1000 &); echo x", 0, 0, "x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			what := spec(test.script)
			what.Build = "b"
			exit, console, p := run(t, s, what)
			if exit.Code != test.code || int(exit.Signal) != test.signal || console != test.console {
				t.Errorf("code %d, signal %d, console %q", exit.Code, exit.Signal, console)
			}
			if pids := inside(m.conf.Dir); len(pids) > 0 {
				t.Errorf("still running: %v", pids)
			}
			if err := p.Destroy(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestArtifacts(t *testing.T) {
	s := newMachine(t).open()
	_, _, p := run(t, s, spec("mkdir d; echo x >d/f; ln -s /etc/passwd link; mkfifo pipe"))
	artifacts, notes, err := p.Artifacts(nil)
	if err != nil || len(artifacts) != 1 || artifacts[0].Path != "d/f" || len(notes) != 2 {
		t.Errorf("artifacts %v, notes %v, %v", artifacts, notes, err)
	}
	if origin := p.Origin(); !strings.Contains(origin, "@clean guid ") {
		t.Errorf("origin %q", origin)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	if err := p.Salvage(aside); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(aside, "d/f")); err != nil || string(text) != "x\n" {
		t.Errorf("salvaged %q, %v", text, err)
	}
}

// TestReplaced: a build that is root in its jail does not reach the host by links.
func TestReplaced(t *testing.T) {
	m := newMachine(t)
	m.conf.User = "root"
	s := m.open()
	outside := t.TempDir()
	if err := os.MkdirAll(filepath.Join(outside, "out/keep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		"rm -rf /builder; ln -s " + outside + " /builder",
		"rm -rf /builder/out; ln -s " + outside + " /builder/out",
	} {
		_, _, p := run(t, s, spec(script))
		artifacts, notes, err := p.Artifacts(nil)
		if err != nil || len(artifacts) > 0 || len(notes) != 1 || notes[0].Text != "unreadable output directory: it was replaced" {
			t.Errorf("artifacts %v, notes %v, %v", artifacts, notes, err)
		}
		if err := p.Salvage(filepath.Join(t.TempDir(), "aside")); err == nil && strings.Contains(script, "rm -rf /builder;") {
			t.Error("it was salvaged")
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "out/keep")); err != nil {
		t.Error(err)
	}
}

// TestFresh: one build does not see the files of another one, and the bounds hold.
func TestFresh(t *testing.T) {
	m := newMachine(t)
	m.conf.User, m.conf.Warm = "root", 1
	s := m.open()
	s.Stock(t.Context())
	for range 3 {
		exit, console, p := run(t, s, spec("ls /tmp /root /builder/tmp; echo x >/tmp/a; echo x >/root/b; rm /etc/passwd"))
		if exit.Code != 0 || console != "/builder/tmp:\n\n/root:\n\n/tmp:\n" {
			t.Errorf("code %d, console %q", exit.Code, console)
		}
		if !strings.Contains(p.Name(), "-warm-") {
			t.Errorf("%s was not made ahead", p.Name())
		}
		if err := p.Destroy(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Sweep(); err != nil { // does not take what is made ahead
		t.Error(err)
	}
	if found := m.look(); len(found) < 2 {
		t.Errorf("made ahead: %q", found)
	}
}

func TestStop(t *testing.T) {
	s := newMachine(t).open()
	p := prepare(t, s, spec("trap 'echo heard' TERM; (trap '' TERM; setsid sleep 1000)& echo ready; while :; do sleep 0.01; done"))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("enough")
	told := &teller{ready: func() { cancel(why) }}
	exit, err := p.Run(ctx, told)
	if err != nil || !errors.Is(exit.Cause, why) {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if !strings.Contains(told.String(), "heard") {
		t.Errorf("console %q", told.String())
	}
}

type teller struct {
	strings.Builder
	ready func()
}

func (w *teller) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "ready") {
		w.ready()
	}
	return w.Builder.Write(p)
}

func TestBounds(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	all := job.Resources{CPUs: 1501, Memory: 64 << 20, PIDs: 100, Disk: 8 << 20, NoNetwork: true}
	if err := s.Enforces(all); err != nil {
		t.Fatal(err)
	}
	what := spec("dd if=/bin/busybox of=big bs=1024 count=1024 2>/dev/null && cat big big big big big big big big big big >all; echo $?; ip link | cat; exit 1")
	what.Resources = all
	p := prepare(t, s, what)
	name := "jail:" + p.Name()
	want := []string{
		name + ":pcpu:deny=151", name + ":memoryuse:log=67108864", name + ":memoryuse:sigkill=67108864",
		name + ":swapuse:log=67108864", name + ":swapuse:deny=67108864", name + ":maxproc:deny=100", name + ":nthr:deny=100",
	}
	if diff := cmp.Diff(want, m.host.lines("rules")); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	m.host.write("messages", `rctl: rule "`+name+`:memoryuse:log=67108864" matched by pid 9 (sh), uid 65534, jail `+p.Name())
	console := new(strings.Builder)
	exit, err := p.Run(t.Context(), console)
	if err != nil || exit.Code != 1 || !exit.OutOfMemory {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if told := console.String(); !strings.HasSuffix(told, "1\n1: lo: <LOOPBACK> mtu 65536 qdisc noop qlen 1000\n    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n") {
		t.Errorf("console %q", told)
	}
	m.host.write("messages", `rctl: rule "jail:builder-other:memoryuse:log=67108864" matched by pid 9 (sh)`)
	what.Build += "x"
	if exit, _, _ := run(t, s, what); exit.OutOfMemory {
		t.Error("what another jail needed is held against this one")
	}
}

func TestRefused(t *testing.T) {
	m := newMachine(t)
	m.host.write("kernel", "kern.racct.enable 0", "kern.features.vimage 0")
	s := m.open()
	for _, test := range []struct {
		name string
		res  job.Resources
		want string
	}{
		{"cpus", job.Resources{CPUs: 1000}, "the bounds can not be kept: cpus 1: kern.racct.enable is 0: put kern.racct.enable=1 into /boot/loader.conf and start the machine again"},
		{"memory", job.Resources{Memory: 64 << 20}, "kern.racct.enable is 0"},
		{"pids", job.Resources{PIDs: 100}, "kern.racct.enable is 0"},
		{"no network", job.Resources{NoNetwork: true}, "kern.features.vimage is 0"},
		{"disk", job.Resources{Disk: 1 << 20}, ""},
		{"none", job.Resources{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := s.Enforces(test.res)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, sandbox.ErrUnenforced) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			what := spec("")
			what.Resources = test.res
			if _, err := s.Prepare(t.Context(), what); !errors.Is(err, sandbox.ErrUnenforced) {
				t.Errorf("preparing: %v", err)
			}
		})
	}
	run(t, s, spec("true")) // rctl is not asked
}

// TestExamine: what is missing is told, with what to do about it.
func TestExamine(t *testing.T) {
	m := newMachine(t)
	missing := func(conf jail.Config) (found []string) {
		for _, f := range jail.Examine(t.Context(), conf) {
			if f.Err != nil {
				found = append(found, f.What)
				if f.Help == "" {
					t.Errorf("%s: no help", f.What)
				}
			}
		}
		return found
	}
	equal := func(when string, want, got []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	bridged := m.conf
	bridged.Network = jail.Network{Bridge: "bridge0", Addresses: addresses("10.0.1.2/24")}
	equal("all is there", nil, missing(bridged))
	m.host.write("kernel", "kern.ostype FreeBSD", "kern.features.vimage 0")
	equal("an old kernel", []string{"network stacks of jails' own"}, missing(bridged))
	archive := m.conf
	archive.Snapshot, archive.Base, archive.Ruleset = "", "/no/such/archive", 7
	equal("no archive", []string{"archive /no/such/archive", "devfs rule set 7"}, missing(archive))
	archive.Run = jail.Run
	t.Setenv("PATH", "/nonexistent")
	equal("no sysctl", []string{"FreeBSD"}, missing(archive))
	m.host.write("complaints") // of the rule set
}

// TestNetworks: addresses are given and taken back, with what they are on.
func TestNetworks(t *testing.T) {
	for _, test := range []struct {
		name    string
		network jail.Network
		want    []string // while a build runs
		conf    []string
	}{
		{
			"alias",
			jail.Network{Interface: "lo1", Addresses: addresses("127.0.2.2/32")},
			[]string{"lo0 127.0.0.1 always", "lo1 127.0.2.2"},
			[]string{`ip4.addr = "127.0.2.2"`, "ip6 = disable"},
		},
		{
			"address that stays",
			jail.Network{Interface: "lo0", Addresses: addresses("127.0.0.1/32")},
			[]string{"lo0 127.0.0.1 always"},
			[]string{`ip4.addr = "127.0.0.1"`},
		},
		{
			"bridge",
			jail.Network{Bridge: "bridge0", Addresses: addresses("10.0.1.2/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
			[]string{"lo0 127.0.0.1 always"},
			[]string{"vnet", `vnet.interface = "epair258b"`},
		},
		{"none", jail.Network{None: true}, []string{"lo0 127.0.0.1 always"}, []string{"vnet"}},
		{"host", jail.Network{}, []string{"lo0 127.0.0.1 always"}, []string{"ip4 = inherit", "ip6 = inherit"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.conf.Network = test.network
			s := m.open()
			for range 2 {
				p := prepare(t, s, spec("true"))
				if diff := cmp.Diff(test.want, m.host.lines("addresses")); diff != "" {
					t.Errorf("addresses (-want +got):\n%s", diff)
				}
				conf, err := os.ReadFile(filepath.Join(m.conf.Dir, p.Name(), "jail.conf"))
				for _, want := range test.conf {
					if !strings.Contains(string(conf), "\t"+want+";\n") {
						t.Errorf("configuration lacks %q (%v):\n%s", want, err, conf)
					}
				}
				if pair := m.host.find("interfaces", "epair258a"); test.network.Bridge != "" && pair != "epair258a "+p.Name() {
					t.Errorf("pair %q", pair)
				}
				if len(test.network.Addresses) > 0 {
					if _, err := s.Prepare(t.Context(), spec("")); err == nil || !strings.Contains(err.Error(), "all 1 addresses are in use") {
						t.Errorf("a second build: %v", err)
					}
				}
				if _, err := p.Run(t.Context(), io.Discard); err != nil {
					t.Error(err)
				}
				next := prepare(t, s, spec("true")) // while that one waits to be delivered
				for _, p := range []sandbox.Place{p, next} {
					if diff := cmp.Diff(test.want, m.host.lines("addresses")); diff != "" {
						t.Errorf("addresses for the next build (-want +got):\n%s", diff)
					}
					if err := p.Destroy(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

func addresses(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// TestPairOfOthers: a pair that is there is neither used nor destroyed.
func TestPairOfOthers(t *testing.T) {
	m := newMachine(t)
	m.host.add("interfaces", "epair258a always")
	m.conf.Network = jail.Network{Bridge: "bridge0", Addresses: addresses("10.0.1.2/24")}
	s := m.open()
	if _, err := s.Prepare(t.Context(), spec("")); err == nil || !strings.Contains(err.Error(), "epair258a is there already") {
		t.Errorf("got %v", err)
	}
	if m.host.find("interfaces", "epair258a") == "" {
		t.Error("it was destroyed")
	}
}

// TestArchive: where there is no ZFS.
func TestArchive(t *testing.T) {
	m := newMachine(t)
	root := t.TempDir()
	if err := furnish(root); err != nil {
		t.Fatal(err)
	}
	m.conf.Snapshot, m.conf.Base = "", filepath.Join(t.TempDir(), "base.tar")
	if _, err := jail.Run(t.Context(), "tar", "-c", "-f", m.conf.Base, "-C", root, "."); err != nil {
		t.Fatal(err)
	}
	s := m.open()
	exit, console, p := run(t, s, spec("mkdir a; echo x >a/b; chmod 0 a; id -u"))
	if exit.Code != 0 || console != "65534\n" {
		t.Errorf("code %d, console %q", exit.Code, console)
	}
	if origin := p.Origin(); !strings.HasPrefix(origin, m.conf.Base+" sha256 ") || len(origin) != len(m.conf.Base)+8+64 {
		t.Errorf("origin %q", origin)
	}
	if err := s.Enforces(job.Resources{Disk: 1 << 20}); !errors.Is(err, sandbox.ErrUnenforced) {
		t.Errorf("disk: %v", err)
	}
}

// TestBusy: a dataset that is in use for a while is destroyed later.
func TestBusy(t *testing.T) {
	m := newMachine(t)
	tries := 0
	m.conf.Run = func(ctx context.Context, argv ...string) (string, error) {
		if argv[0] == "zfs" && argv[1] == "destroy" {
			if tries++; tries < 4 {
				return "", errors.New("zfs destroy: exit status 1: cannot destroy: dataset is busy")
			}
		}
		return m.host.call(ctx, argv...)
	}
	t.Cleanup(func() { // after the place was destroyed
		if tries < 4 {
			t.Errorf("%d tries", tries)
		}
	})
	run(t, m.open(), spec("true"))
}
