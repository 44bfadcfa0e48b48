package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"builder/pkg/sandbox"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	oci1 "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Network is what a build has of the network: one of these, or the name of a CNI
// configuration.
type Network string

// The networks that there are always.
const (
	// NetworkNone is a loopback device of the build's own.
	NetworkNone Network = "none"
	// NetworkHost is the host's, also what listens on its loopback device.
	NetworkHost Network = "host"
)

// Where CNI has its configurations and programs.
const (
	DefaultCNIConfig  = "/etc/cni/net.d"
	DefaultCNIPlugins = "/usr/lib/cni:/opt/cni/bin"
)

// device is what the network is in the container.
const device = "eth0"

var networkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func (n Network) named() bool { return n != NetworkNone && n != NetworkHost }

// network is what a container of a shape has.
func (c *Config) network(sh shape) Network {
	if sh.resources.NoNetwork {
		return NetworkNone
	}
	return c.Network
}

// cni calls the plugins. What they answered is kept in a place's workspace.
func (c *Config) cni(w workspace) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(filepath.SplitList(c.CNIPlugins), filepath.Join(w.network(), "cache"), nil)
}

// networkOptions are those of the container.
func networkOptions(n Network, w workspace) []oci.SpecOpts {
	switch {
	case n == NetworkHost:
		return []oci.SpecOpts{oci.WithHostNamespace(oci1.NetworkNamespace), oci.WithHostResolvconf, oci.WithHostHostsFile}
	case n.named():
		return []oci.SpecOpts{oci.WithMounts([]oci1.Mount{
			bind(w.resolver(), "/etc/resolv.conf", "ro"), bind(w.hosts(), "/etc/hosts", "ro"),
		})}
	}
	return nil
}

// makeNetwork makes what the container sees of a network before it is there.
func (w workspace) makeNetwork() error {
	if err := os.Mkdir(w.network(), 0o755); err != nil {
		return err
	}
	resolver, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(
		os.WriteFile(w.resolver(), resolver, 0o644),
		os.WriteFile(w.hosts(), []byte("127.0.0.1 localhost builder\n::1 localhost\n"), 0o644),
		os.WriteFile(w.netns(), nil, 0o600),
	)
}

// join connects a container whose first process waits to be started. What is needed to
// take that back is written before, and its namespace kept, for the worker may be killed
// and plugins take back only what they find.
func (p *place) join(ctx context.Context, n Network) error {
	w, conf := p.workspace(), &p.sandbox.conf
	list, err := libcni.LoadNetworkConf(conf.CNIConfig, string(n))
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.joined(), list.Bytes, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", p.task.Pid()), w.netns(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keeping its namespace: %w", err)
	}
	found, err := conf.cni(w).AddNetworkList(ctx, list, w.attachment(p.name))
	if err != nil {
		return err
	}
	result, err := types100.GetResult(found)
	if err != nil {
		return err
	}
	if len(result.DNS.Nameservers) == 0 {
		return nil
	}
	return os.WriteFile(w.resolver(), resolverText(result.DNS), 0o644)
}

func resolverText(dns types.DNS) []byte {
	var b strings.Builder
	for _, server := range dns.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Search, " "))
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return []byte(b.String())
}

func (w workspace) attachment(name string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: name, NetNS: w.netns(), IfName: device}
}

// leave takes back what join did, whatever there is of it.
func (s *Sandbox) leave(ctx context.Context, name string, w workspace) error {
	text, err := os.ReadFile(w.joined())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list *libcni.NetworkConfigList
	if err == nil {
		list, err = libcni.NetworkConfFromBytes(text)
	}
	if err == nil {
		err = s.conf.cni(w).DelNetworkList(ctx, list, w.attachment(name))
	}
	if err != nil {
		return fmt.Errorf("leaving network: %w", err)
	}
	err = unix.Unmount(w.netns(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) { // it was killed before
		return fmt.Errorf("leaving network: unmounting its namespace: %w", err)
	}
	return os.Remove(w.joined())
}

// hasNetwork looks whether a network's configuration is there, and its plugins.
func (c *Config) hasNetwork(ctx context.Context) sandbox.Finding {
	f := sandbox.Finding{
		What: "network " + string(c.Network),
		Help: fmt.Sprintf("write its configuration to %s, and install the plugins (Debian, Ubuntu: apt-get install containernetworking-plugins; Fedora: dnf install containernetworking-plugins)", c.CNIConfig),
	}
	list, err := libcni.LoadNetworkConf(c.CNIConfig, string(c.Network))
	if err == nil {
		_, err = c.cni(workspace(os.TempDir())).ValidateNetworkList(ctx, list)
	}
	f.Err = err
	return f
}
