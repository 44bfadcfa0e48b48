package server_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"golang.org/x/sys/unix"
)

// network is a network namespace: the host of a server, or of its peers.
type network struct {
	t    testing.TB
	name string
}

// networks are two hosts, joined by a cable; the first has address 192.0.2.1.
func networks(t testing.TB) (here, there network) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip, of iproute2, to make network namespaces")
	}
	here = network{t, fmt.Sprintf("builder-here-%d", os.Getpid())}
	there = network{t, fmt.Sprintf("builder-there-%d", os.Getpid())}
	for _, n := range []network{here, there} {
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", n.name).CombinedOutput(); err != nil {
			t.Skipf("no network namespaces here: %v: %s", err, out)
		}
		t.Cleanup(func() { n.ip("netns", "del", n.name) })
	}
	here.ip("-n", here.name, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", there.name)
	for i, n := range []network{here, there} {
		n.ip("-n", n.name, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "cable")
		n.ip("-n", n.name, "link", "set", "cable", "up")
		n.ip("-n", n.name, "link", "set", "lo", "up")
	}
	return here, there
}

func (n network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// inside calls f on that host: sockets that f makes belong there for ever.
func (n network) inside(f func()) {
	n.t.Helper()
	enter := func(name string) {
		ns, err := os.Open(name)
		if err != nil {
			n.t.Fatal(err)
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			n.t.Fatalf("entering %s: %v", name, err)
		}
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		n.t.Fatal(err)
	}
	defer home.Close()
	runtime.LockOSThread() // for ever, if f does not return or there is no way back
	enter("/var/run/netns/" + n.name)
	f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		n.t.Fatalf("going back: %v", err)
	}
	runtime.UnlockOSThread()
}

// TestVanished: the host of some peers vanishes without a word. The server
// notices it of each: a worker that waits, one that builds, one that is handed a
// run after that, and a client that watches. The runs go to other workers.
func TestVanished(t *testing.T) {
	here, there := networks(t)
	r := configure(t, func(c *server.Config) {
		c.KeepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}
	})
	here.inside(func() {
		l, err := net.Listen("tcp", "192.0.2.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.startOn(l)
		r.status() // the test's own client is on the server's host
	})
	defer r.halt()
	platforms := []string{"waiting", "building", "handed"}
	vanishing := map[string]*peer{}
	var watching *peer
	r.schedule("building", "building", "x")
	there.inside(func() {
		for _, platform := range platforms {
			vanishing[platform] = r.requested(wire.OwnVersion, platform)
		}
		vanishing["building"].begin()
		r.waiting("waiting", 1)
		r.waiting("handed", 1)
		watching = r.dial(wire.Client, wire.OwnVersion)
		watching.send(wire.Watch{What: "building"})
		watching.receive(wire.KindWatching)
	})
	there.ip("-n", there.name, "link", "set", "cable", "down")
	r.schedule("handed", "handed", "x")
	for name, p := range vanishing {
		wait(t, name+" is given up", func() bool { return r.log.count("connection ended", p.net.LocalAddr().String()) == 1 })
	}
	wait(t, "the client is given up", func() bool {
		return r.log.count(watching.net.LocalAddr().String()) == 1
	})
	r.waiting("waiting", 0)
	r.schedule("waiting", "waiting", "x")
	for _, platform := range platforms {
		here.inside(func() {
			w := r.requested(wire.OwnVersion, platform)
			w.send(wire.Finish{UUID: w.begin().Build.UUID, Result: success})
			w.receive(wire.KindStored)
		})
	}
	for _, name := range []string{"building", "handed"} {
		builds := r.ended(name, 2)
		if !builds[0].Result.Success() || builds[1].Result.Cause != job.WorkerLost {
			t.Errorf("%s: %v, then %v", name, builds[1].Result, builds[0].Result)
		}
	}
	r.ended("waiting", 1)
}
