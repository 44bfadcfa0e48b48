package container

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"builder/pkg/job"
	"builder/pkg/sandbox"

	runc "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	image "github.com/opencontainers/image-spec/specs-go/v1"
	oci1 "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// runcRuntime is containerd's for programs with the command line of runc.
	runcRuntime = "io.containerd.runc.v2"
	// cpuPeriod is what a share of processors is counted in, in microseconds.
	cpuPeriod = 100_000
	// memoryDisks bounds each of /dev, /dev/shm and /run, which are memory.
	memoryDisks = 64 << 20
)

// runtime is the containerd runtime that Config names, with its options.
func (c *Config) runtime() client.NewContainerOpts {
	switch {
	case strings.HasPrefix(c.Runtime, "io.containerd."):
		return client.WithRuntime(c.Runtime, nil)
	case c.Runtime == DefaultRuntime:
		return client.WithRuntime(runcRuntime, &runc.Options{})
	}
	return client.WithRuntime(runcRuntime, &runc.Options{BinaryName: c.Runtime})
}

func (c *Config) isGVisor() bool { return strings.Contains(filepath.Base(c.Runtime), "runsc") }

// shape is what has to be known of a build to make its container.
type shape struct {
	platform  string
	env       string // joined with NUL
	resources job.Resources
}

func shapeOf(spec sandbox.Spec) shape {
	return shape{platform: spec.Platform, env: strings.Join(spec.Env, "\x00"), resources: spec.Resources}
}

// environment is that of the first process, without what belongs to one build only.
// A container is described in JSON, which knows only UTF-8: others are raw.
func (sh shape) environment(config image.ImageConfig) (env, raw []string, err error) {
	spec := sandbox.Spec{Platform: sh.platform}
	if sh.env != "" {
		spec.Env = strings.Split(sh.env, "\x00")
	}
	all, err := sandbox.Environment(spec, config.Env, insideHome, insideTemp, insideOut)
	for _, variable := range all {
		if utf8.ValidString(variable) {
			env = append(env, variable)
		} else {
			raw = append(raw, variable)
		}
	}
	return env, raw, err
}

// spec is what a container is made of.
func (s *Sandbox) spec(name string, sh shape, u user, env []string, w workspace) oci.SpecOpts {
	options := []oci.SpecOpts{
		oci.WithDefaultSpec(),
		oci.WithProcessArgs("/bin/sh", "-c", program, programName),
		oci.WithProcessCwd(insideOut),
		oci.WithEnv(env),
		oci.WithUIDGID(u.uid, u.gid),
		oci.WithHostname("builder"),
		oci.WithCgroup("/" + name),
		oci.WithNoNewPrivileges,
		oci.WithCapabilities(s.conf.Capabilities),
		seccomp.WithDefaultProfile(), // which depends on the capabilities
		oci.WithMounts([]oci1.Mount{
			bind(w.work(), insideRoot, "rw"),
			bind(w.control(), insideControl, "ro"),
			bind(w.temp(), "/tmp", "rw"),
		}),
	}
	if s.conf.ReadOnly || sh.resources.Disk != 0 {
		options = append(options, oci.WithRootFSReadonly(), oci.WithMounts([]oci1.Mount{bind(w.temp(), "/var/tmp", "rw")}))
	}
	options = append(options, networkOptions(s.conf.network(sh), w)...)
	return oci.Compose(append(options, limits(sh.resources)...)...)
}

func bind(from, to, mode string) oci1.Mount {
	return oci1.Mount{Type: "bind", Source: from, Destination: to, Options: []string{"rbind", "nosuid", "nodev", mode}}
}

// limits keeps the bounds.
func limits(res job.Resources) []oci.SpecOpts {
	var options []oci.SpecOpts
	if res.CPUs != 0 {
		options = append(options, oci.WithCPUCFS(res.CPUs*cpuPeriod/1000, cpuPeriod))
	}
	if res.Memory != 0 {
		options = append(options, oci.WithMemoryLimit(uint64(res.Memory)), oci.WithMemorySwap(res.Memory))
	}
	if res.PIDs != 0 {
		options = append(options, oci.WithPidsLimit(res.PIDs+1)) // the first process is ours
	}
	if res.Disk != 0 {
		options = append(options, sized(min(res.Disk, memoryDisks)))
	}
	return options
}

// sized bounds each file system in memory that a container has anyway.
func sized(octets int64) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, spec *oci.Spec) error {
		for i, mount := range spec.Mounts {
			if mount.Type != "tmpfs" {
				continue
			}
			mount.Options = slices.DeleteFunc(mount.Options, func(o string) bool { return strings.HasPrefix(o, "size=") })
			spec.Mounts[i].Options = append(mount.Options, "size="+strconv.FormatInt(octets, 10))
		}
		return nil
	}
}
