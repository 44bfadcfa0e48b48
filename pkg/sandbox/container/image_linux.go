package container

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pull says when an image is fetched from its registry.
type Pull string

// When an image may be fetched.
const (
	PullMissing Pull = "missing" // when it is not there
	PullAlways  Pull = "always"  // for every build
	PullNever   Pull = "never"
)

// images finds the images of builds.
type images struct {
	client *client.Client
	conf   *Config

	mu    sync.Mutex                         // one fetches, others wait for it
	known map[digest.Digest]spec.ImageConfig // images that were unpacked, by digest
}

// config is what an image says of its processes.
func (i *images) config(ctx context.Context, image client.Image) (spec.ImageConfig, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if known, ok := i.known[image.Target().Digest]; ok {
		return known, nil
	}
	if err := i.unpack(ctx, image); err != nil {
		return spec.ImageConfig{}, err
	}
	found, err := image.Spec(ctx)
	if err != nil {
		return spec.ImageConfig{}, fmt.Errorf("reading image %s: %w", image.Name(), err)
	}
	if i.known == nil {
		i.known = map[digest.Digest]spec.ImageConfig{}
	}
	i.known[image.Target().Digest] = found.Config
	return found.Config, nil
}

// forget has the next build look again whether the image is unpacked: somebody may
// have removed it.
func (i *images) forget(image client.Image) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.known, image.Target().Digest)
}

// get returns the image of a platform.
func (i *images) get(ctx context.Context, platform string) (client.Image, error) {
	name, ok := i.conf.Images[platform]
	if !ok {
		name, ok = i.conf.Images[""]
	}
	if !ok {
		return nil, fmt.Errorf("no image is named for platform %q", platform)
	}
	ref, err := refer(name)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.conf.Pull != PullAlways {
		image, err := i.client.GetImage(ctx, ref)
		if err == nil {
			return image, nil
		}
		if !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("looking for image %s: %w", ref, err)
		}
		if i.conf.Pull == PullNever {
			return nil, fmt.Errorf("image %s is not there, and is not to be pulled; import it with builder-worker image import", ref)
		}
	}
	image, err := i.client.Pull(ctx, ref, client.WithPullUnpack, client.WithResolver(resolver()))
	if err != nil {
		return nil, fmt.Errorf("pulling image %s: %w", ref, err)
	}
	return image, nil
}

func (i *images) unpack(ctx context.Context, image client.Image) error {
	done, err := image.IsUnpacked(ctx, "")
	if err == nil && !done {
		err = image.Unpack(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("unpacking image %s: %w", image.Name(), err)
	}
	return nil
}

// resolver speaks plain HTTP with this machine, HTTPS with all others.
func resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost), docker.WithClient(registryClient())),
	})
}

// registryPatience is how long a registry may send nothing of an image.
var registryPatience = time.Minute

func registryClient() *http.Client {
	transport := docker.DefaultHTTPTransport(nil)
	dial, patience := transport.DialContext, registryPatience
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return impatient{conn, patience}, nil
	}
	return &http.Client{Transport: transport}
}

// impatient is a connection from which something is to be read in time.
type impatient struct {
	net.Conn
	patience time.Duration
}

func (c impatient) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// refer completes the name of an image as docker does: debian:12 is
// docker.io/library/debian:12.
func refer(name string) (string, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("understanding image %q: %w", name, err)
	}
	return named.String(), nil
}

// Import takes the images of an archive (docker save, OCI) over, unpacked, and
// returns their names with their digests. Socket is containerd's, "" DefaultSocket.
func Import(ctx context.Context, socket string, archive io.Reader) ([]string, error) {
	if socket == "" {
		socket = DefaultSocket
	}
	c, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer shut(c)
	found, err := c.Import(ctx, archive)
	if err != nil {
		return nil, fmt.Errorf("importing images for linux/%s of an archive as docker save makes it, not compressed: %w", runtime.GOARCH, err)
	}
	var names []string
	for _, image := range found {
		i := client.NewImage(c, image)
		if err := (&images{client: c}).unpack(ctx, i); err != nil {
			return names, err
		}
		names = append(names, origin(i))
	}
	return names, nil
}

// origin is an image's name with its digest.
func origin(i client.Image) string { return i.Name() + "@" + i.Target().Digest.String() }
