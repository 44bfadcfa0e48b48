package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"builder/pkg/sandbox"

	"golang.org/x/sys/unix"
)

// Where the workspace is in the container.
const (
	insideRoot    = "/builder"
	insideControl = insideRoot + "/control"
	insideScript  = insideControl + "/script"
	insideEnter   = insideControl + "/enter"
	insideOut     = insideRoot + "/out"
	insideHome    = insideRoot + "/home"
	insideTemp    = insideRoot + "/tmp"
)

// workspace is the directory of a place, on the host.
type workspace string

func (w workspace) control() string { return filepath.Join(string(w), "control") }
func (w workspace) work() string    { return filepath.Join(string(w), "work") }
func (w workspace) start() string   { return filepath.Join(w.control(), "start") }
func (w workspace) network() string { return filepath.Join(string(w), "network") }

func (w workspace) resolver() string { return filepath.Join(w.network(), "resolv.conf") }
func (w workspace) hosts() string    { return filepath.Join(w.network(), "hosts") }
func (w workspace) netns() string    { return filepath.Join(w.network(), "namespace") }
func (w workspace) joined() string   { return filepath.Join(w.network(), "joined") }

func (w workspace) output() string  { return filepath.Join(w.work(), "out") }
func (w workspace) temp() string    { return filepath.Join(w.work(), "tmp") }
func (w workspace) console() string { return filepath.Join(string(w), "console") }
func (w workspace) end() string     { return filepath.Join(w.control(), "end") }

// make makes what is in the workspace, for a user. Its part for the build is a tmpfs of
// disk octets, unless that is 0.
func (w workspace) make(u user, disk int64) error {
	if err := os.Mkdir(w.work(), 0o700); err != nil {
		return err
	}
	if disk != 0 {
		options := fmt.Sprintf("size=%d,mode=700", disk)
		if err := unix.Mount("tmpfs", w.work(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
			return fmt.Errorf("mounting tmpfs of %d octets: %w", disk, err)
		}
	}
	// The control directory is the host's also in the container, and only read there.
	if err := os.Mkdir(w.control(), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{w.output(), filepath.Join(w.work(), "home"), w.temp(), filepath.Join(w.work(), "control")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chown(dir, int(u.uid), int(u.gid)); err != nil {
			return err
		}
	}
	if err := os.Chmod(w.temp(), 0o1777); err != nil { // it is /tmp as well
		return err
	}
	if err := os.Chown(w.work(), int(u.uid), int(u.gid)); err != nil {
		return err
	}
	if err := unix.Mkfifo(w.end(), 0); err != nil {
		return err
	}
	if err := os.Chmod(w.end(), 0o222); err != nil {
		return err
	}
	return unix.Mkfifo(w.console(), 0o600)
}

// fill writes what is known when the build comes, and those variables that can not be
// passed on otherwise.
func (w workspace) fill(spec sandbox.Spec, variables []string) error {
	text, err := start(append(slices.Clone(variables), "BUILDER_JOB="+spec.Job, "BUILDER_BUILD="+spec.Build), spec.Script)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(w.start(), text, 0o444),
		sandbox.WriteScript(filepath.Join(w.control(), "script"), spec.Script),
	)
}

// remake makes the output directory again, which goes when it is empty. It belongs to whom
// the workspace does.
func (w workspace) remake() error {
	var owner unix.Stat_t
	if err := unix.Lstat(w.work(), &owner); err != nil {
		return err
	}
	err := os.Mkdir(w.output(), 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Lchown(w.output(), int(owner.Uid), int(owner.Gid))
	}
	return err
}

// stop tells the first process that the build is to end.
func (w workspace) stop() error {
	return os.WriteFile(filepath.Join(w.control(), "stop"), nil, 0o444)
}

// remove removes it, also when it was made in part.
func (w workspace) remove() error {
	// Nothing is mounted there, or nothing is there at all: both are fine.
	err := unix.Unmount(w.work(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("unmounting %s: %w", w.work(), err)
	}
	return sandbox.Remove(string(w))
}
