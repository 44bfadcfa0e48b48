//go:build linux

package container_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// TestNetwork: builds in networks of CNI, with real plugins. What those do to the host
// they do to a network namespace of this test, its thread's.
func TestNetwork(t *testing.T) {
	if _, err := exec.LookPath(filepath.Join(pluginsDir, "ptp")); err != nil {
		t.Skipf("not installed: %v (.ci/run does)", err)
	}
	each(t, func(t *testing.T, d *daemon) {
		runtime.LockOSThread() // and never unlocked: the thread ends with the test
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })}
		served := make(chan error)
		go func() { served <- server.Serve(l) }()
		defer func() {
			server.Close()
			<-served
		}()
		for _, plugin := range []string{"ptp", "bridge"} {
			inNetwork(t, d, plugin, l.Addr().(*net.TCPAddr).Port)
		}
	})
}

var pluginsDir, _, _ = strings.Cut(container.DefaultCNIPlugins, ":")

// inNetwork runs builds in a network of that plugin.
func inNetwork(t *testing.T, d *daemon, plugin string, port int) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken") // addresses
	config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "test-net", "plugins": [{"type": %q, "bridge": "br-test", "isGateway": true,
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.99.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
		"dns": {"nameservers": ["10.99.0.53"], "search": ["example.org"]}}]}`, plugin, taken)
	if err := os.WriteFile(filepath.Join(dir, "10-test.conflist"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := container.Config{
		Socket: d.Socket(), Dir: filepath.Join(dir, "builds"), Worker: uuid.NewString(), Images: map[string]string{"": "busybox"},
		Pull: container.PullNever, Network: "test-net", CNIConfig: dir,
	}
	s := open(t, d, func(c *container.Config) { *c = conf })
	before := taps(t, taken, conf.Dir)
	const script = `ip -o -4 addr show dev eth0 | grep -c 10.99.0; ifconfig lo | grep -c UP; grep -h . /etc/resolv.conf; grep -c localhost /etc/hosts; wget -qO- http://10.99.0.1:%d/`
	place := prepare(t, s, sandbox.Spec{Script: fmt.Appendf(nil, script, port)})
	var console strings.Builder
	exit, err := place.Run(t.Context(), &console)
	if err != nil || console.String() != "1\n1\nnameserver 10.99.0.53\nsearch example.org\n2\nhello\n" {
		t.Errorf("%s: exit %+v, error %v, console %q", plugin, exit, err, console.String())
	}
	if slices.Equal(before, taps(t, taken, conf.Dir)) {
		t.Errorf("%s: nothing is made outside of the container, so nothing is tested", plugin)
	}
	if err := place.Destroy(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, taps(t, taken, conf.Dir)); diff != "" {
		t.Errorf("%s: left behind: %s", plugin, diff)
	}
	if _, console := run(t, s, sandbox.Spec{Script: []byte("ls /sys/class/net"), Resources: job.Resources{NoNetwork: true}}); console != "lo\n" {
		t.Errorf("%s: without network: %q", plugin, console)
	}
	// One that was killed leaves a container to the next.
	if _, err := s.Prepare(t.Context(), sandbox.Spec{Build: "left", Script: []byte("true")}); err != nil {
		t.Fatal(err)
	}
	if err := open(t, d, func(c *container.Config) { *c = conf }).Sweep(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, taps(t, taken, conf.Dir)); diff != "" {
		t.Errorf("%s: not swept: %s", plugin, diff)
	}
}

// taps are what there is of a network outside of containers: devices, addresses that are
// taken, namespaces that are mounted.
func taps(t *testing.T, taken, builds string) (found []string) {
	t.Helper()
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, device := range devices {
		if device.Name != "br-test" { // that stays
			found = append(found, device.Name)
		}
	}
	addresses, err := filepath.Glob(filepath.Join(taken, "test-net", "10.*"))
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, addresses...)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for mount := range strings.Lines(string(mounts)) {
		if strings.Contains(mount, builds) {
			found = append(found, mount)
		}
	}
	return found
}

// TestNetworkMissing: a worker is told of it before it takes builds.
func TestNetworkMissing(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for _, found := range container.Check(t.Context(), container.Config{
			Socket: d.Socket(), Images: map[string]string{"": "busybox"}, Network: "nowhere", CNIConfig: t.TempDir(),
		}) {
			if found.What == "network nowhere" {
				if found.Err == nil {
					t.Error("it is there")
				}
				return
			}
		}
		t.Error("nothing is said of the network")
	})
}
