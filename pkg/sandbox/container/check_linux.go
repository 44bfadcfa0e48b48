package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/sandbox"

	"github.com/containerd/errdefs"
	"github.com/google/uuid"
)

// Check finds out whether containers of conf work on this machine: first what they
// need, and if all of that is there, by running one. Conf.Dir and Conf.Worker are
// not used.
func Check(ctx context.Context, conf Config) []sandbox.Finding {
	conf.Worker, conf.Warm = uuid.NewString(), 0
	if err := conf.complete(); err != nil {
		return []sandbox.Finding{{What: "settings", Err: err}}
	}
	findings := []sandbox.Finding{isRoot(), hasRuntime(conf.Runtime), hasControllers()}
	if conf.Network.named() {
		findings = append(findings, conf.hasNetwork(ctx))
	}
	c, err := dial(ctx, conf.Socket)
	findings = append(findings, sandbox.Finding{
		What: "containerd at " + conf.Socket, Err: err,
		Help: "install it (Debian, Ubuntu: apt-get install containerd runc; Fedora: dnf install containerd runc) and start it (systemctl enable --now containerd); --containerd names another socket",
	})
	if err != nil {
		return findings
	}
	defer shut(c)
	if version, err := c.Version(ctx); err == nil {
		findings[len(findings)-1].What += ", " + version.Version
	}
	pictures := &images{client: c, conf: &conf}
	for _, platform := range slices.Sorted(maps.Keys(conf.Images)) {
		findings = append(findings, pictures.check(ctx, conf.Images[platform]))
	}
	if slices.ContainsFunc(findings, func(f sandbox.Finding) bool { return f.Err != nil }) {
		return findings
	}
	for _, platform := range slices.Sorted(maps.Keys(conf.Images)) {
		findings = append(findings, sandbox.Finding{What: "a build in " + conf.Images[platform], Err: conf.try(ctx, platform)})
	}
	return findings
}

func isRoot() sandbox.Finding {
	f := sandbox.Finding{What: "root", Help: "start the worker as root: it reads what other users leave in the container"}
	if os.Geteuid() != 0 {
		f.Err = errors.New("this is an ordinary user")
	}
	return f
}

// hasRuntime looks for the runtime where containerd does.
func hasRuntime(name string) sandbox.Finding {
	f := sandbox.Finding{What: "runtime " + name, Help: "install it; --runtime names another one"}
	if kind, ok := strings.CutPrefix(name, "io.containerd."); ok {
		name = "containerd-shim-" + strings.ReplaceAll(kind, ".", "-")
	}
	_, f.Err = exec.LookPath(name)
	if f.Err != nil && !strings.Contains(name, "/") { // a daemon's PATH has these
		for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/local/bin"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
				f.Err = nil
			}
		}
	}
	return f
}

func hasControllers() sandbox.Finding {
	f := sandbox.Finding{What: "cgroup controllers cpu, memory, pids", Help: "mount cgroups; memory may have to be switched on by cgroup_enable=memory on the kernel's command line"}
	var missing []string
	for name, there := range controllers() {
		if !there {
			missing = append(missing, name)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		f.Err = fmt.Errorf("%s not below %s", strings.Join(missing, ", "), groups)
	}
	return f
}

// check looks whether an image is there or could be pulled.
func (i *images) check(ctx context.Context, name string) sandbox.Finding {
	f := sandbox.Finding{What: "image " + name, Help: "pull it by hand (ctr -n " + Namespace + " images pull REF), or import it: builder-worker image import FILE"}
	ref, err := refer(name)
	if err == nil {
		_, err = i.client.GetImage(ctx, ref)
	}
	if errdefs.IsNotFound(err) && i.conf.Pull != PullNever {
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		_, _, err = resolver().Resolve(ctx, ref)
	}
	f.Err = err
	return f
}

// try runs a build that does nothing.
func (c *Config) try(ctx context.Context, platform string) (err error) {
	conf := *c
	if conf.Dir, err = os.MkdirTemp("", "builder-check-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(conf.Dir)) }()
	s, err := Open(ctx, conf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	place, err := s.Prepare(ctx, sandbox.Spec{Build: "check", Platform: platform, Script: []byte("exit 0\n")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Destroy()) }()
	var console strings.Builder
	exit, err := place.Run(ctx, &console)
	if err == nil && (exit.Code != 0 || exit.Signal != 0) {
		err = fmt.Errorf("exit status %d, signal %d: %s", exit.Code, exit.Signal, console.String())
	}
	return err
}
