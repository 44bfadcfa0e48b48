package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/defaults"
	capability "github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/log"
)

const (
	// Namespace is containerd's namespace for all that is ours.
	Namespace = "builder"
	// DefaultSocket is where containerd listens unless it is told otherwise.
	DefaultSocket = defaults.DefaultAddress
	// DefaultRuntime is what runs containers unless Config names another.
	DefaultRuntime = "runc"

	// callLimit bounds what containerd is asked to do for one place.
	callLimit = time.Minute
	// dialLimit is how long containerd may take to answer at first.
	dialLimit = 5 * time.Second
)

// The smallest bounds with which a container can be started at all: the runtime
// itself runs within them for a moment.
const (
	minMemory = 16 << 20
	minPIDs   = 16
)

// ErrLost says that containerd does not know the build any more, and that nothing
// tells how it ended.
var ErrLost = errors.New("containerd has lost the build")

// Config says how containers are made.
type Config struct {
	// Socket is containerd's; "" means DefaultSocket.
	Socket string
	// Dir is where places have their directories. It is made if it is missing, and
	// no other process may use it.
	Dir string
	// Worker is the id of the worker: its first 8 characters are in every name.
	Worker string
	// Images names the image of each platform; that of "" is for the others.
	Images map[string]string
	// Pull says when an image is fetched; "" means PullMissing.
	Pull Pull
	// Runtime is a program with the command line of runc, or the name of a runtime
	// of containerd (io.containerd.NAME); "" means DefaultRuntime.
	Runtime string
	// User is UID or UID:GID; "" means the image's, which must be a number then, or
	// root.
	User string
	// Capabilities are what the build may do besides, such as CAP_CHOWN.
	Capabilities []string
	// ReadOnly makes all but the workspace, /tmp, /var/tmp, /run and /dev read-only.
	// So does a bound on the disk.
	ReadOnly bool
	// Network is what a build has that may use one; "" means NetworkNone.
	Network Network
	// CNIConfig is the directory of CNI configurations, CNIPlugins those of its programs,
	// with colons between them; "" means DefaultCNIConfig and DefaultCNIPlugins.
	CNIConfig, CNIPlugins string
	// Warm is the number of places made ahead, like that of the latest build.
	Warm int
}

// Sandbox is the [sandbox.Sandbox] of this package.
type Sandbox struct {
	conf   Config
	prefix string // of all names
	user   user
	client *client.Client
	images images

	mu     sync.Mutex
	inUse  map[string]bool // names
	warm   []*warm
	closed bool

	ahead sync.WaitGroup // goroutines that make or destroy warm places
}

// Open connects to containerd. The caller closes the Sandbox.
func Open(ctx context.Context, conf Config) (*Sandbox, error) {
	if err := conf.complete(); err != nil {
		return nil, err
	}
	s := &Sandbox{conf: conf, prefix: "builder-" + conf.Worker[:min(8, len(conf.Worker))] + "-", inUse: map[string]bool{}}
	var err error
	if s.user, err = parseUser(conf.User); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.conf.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making directory for builds: %w", err)
	}
	if s.client, err = dial(ctx, conf.Socket); err != nil {
		return nil, err
	}
	s.images = images{client: s.client, conf: &s.conf}
	return s, nil
}

// quiet keeps containerd's library from logging by itself: what it has to say comes
// back as errors.
var quiet = sync.OnceValue(func() error { return log.SetLevel("panic") })

// dial connects to containerd and waits until it answers.
func dial(ctx context.Context, socket string) (*client.Client, error) {
	if err := quiet(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	// The client would say only that time is over.
	probe, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to containerd: %w", err)
	}
	probe.Close()
	c, err := client.New(socket, client.WithDefaultNamespace(Namespace), client.WithTimeout(dialLimit))
	if err != nil {
		return nil, fmt.Errorf("connecting to containerd at %s: %w", socket, err)
	}
	if _, err := c.Version(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connecting to containerd at %s: %w", socket, err), c.Close())
	}
	return c, nil
}

// Valid tells whether conf means something, whatever the machine is. Worker and Dir may
// be left open.
func (c Config) Valid() error {
	c.Worker = cmp.Or(c.Worker, "nobody")
	c.Capabilities = slices.Clone(c.Capabilities)
	return c.complete()
}

// complete fills in what is left open, and refuses what means nothing.
func (c *Config) complete() error {
	c.Socket = cmp.Or(c.Socket, DefaultSocket)
	c.Runtime = cmp.Or(c.Runtime, DefaultRuntime)
	c.Pull = cmp.Or(c.Pull, PullMissing)
	c.Network = cmp.Or(c.Network, NetworkNone)
	c.CNIConfig = cmp.Or(c.CNIConfig, DefaultCNIConfig)
	c.CNIPlugins = cmp.Or(c.CNIPlugins, DefaultCNIPlugins)
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if _, err := parseUser(c.User); err != nil {
		return err
	}
	for _, name := range c.Images {
		if _, err := refer(name); err != nil {
			return err
		}
	}
	switch {
	case c.Worker == "":
		return errors.New("opening containers: the worker has no id")
	case c.Pull != PullMissing && c.Pull != PullAlways && c.Pull != PullNever:
		return fmt.Errorf("pulling %q is unknown: use %s, %s or %s", c.Pull, PullMissing, PullAlways, PullNever)
	case !networkName.MatchString(string(c.Network)):
		return fmt.Errorf("network %q is not understood: use %s, %s or the name of a CNI configuration", c.Network, NetworkNone, NetworkHost)
	case len(c.Images) == 0:
		return errors.New("no image is named")
	}
	for i, name := range c.Capabilities {
		name = "CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if !slices.Contains(capability.Known(), name) {
			return fmt.Errorf("capability %q is unknown", c.Capabilities[i])
		}
		c.Capabilities[i] = name
	}
	return nil
}

// Kind implements [sandbox.Sandbox].
func (*Sandbox) Kind() string { return "container" }

// Enforces implements [sandbox.Sandbox].
func (s *Sandbox) Enforces(res job.Resources) error {
	refuse := func(format string, arguments ...any) error {
		return fmt.Errorf("%w: %s", sandbox.ErrUnenforced, fmt.Sprintf(format, arguments...))
	}
	switch {
	case res.Memory != 0 && res.Memory < minMemory:
		return refuse("a container can not be started with %s of memory: use %s or more", job.FormatSize(res.Memory), job.FormatSize(minMemory))
	case res.PIDs != 0 && res.PIDs < minPIDs:
		return refuse("a container can not be started with %d processes: use %d or more", res.PIDs, minPIDs)
	case res.PIDs != 0 && s.conf.isGVisor():
		return refuse("gVisor (%s) does not bound the number of processes", s.conf.Runtime)
	case res.Disk != 0 && os.Geteuid() != 0:
		return refuse("only root can bound the disk, by mounting a tmpfs")
	}
	return nil
}

// Close destroys the places that were made ahead.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	left := s.warm
	s.warm, s.closed = nil, true
	s.mu.Unlock()
	var failures []error
	for _, w := range left {
		failures = append(failures, w.discard())
	}
	s.ahead.Wait()
	return errors.Join(append(failures, s.client.Close())...)
}

func (s *Sandbox) uses(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse[name]
}

func (s *Sandbox) use(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse[name] = true
}

func (s *Sandbox) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inUse, name)
}
