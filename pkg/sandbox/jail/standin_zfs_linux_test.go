package jail_test

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The stand-in of zfs has one pool with one snapshot. A clone is mounted as a file system
// in memory with a copy of the snapshot, once.
const (
	standInParent   = "pool/jails"
	standInSnapshot = standInParent + "/base@clean"
)

var (
	zfsClone = regexp.MustCompile(`^clone -o canmount=noauto -o mountpoint=(/\S+) ` + standInSnapshot + ` ` + standInParent + `/([\w-]+)$`)
	zfsMount = regexp.MustCompile(`^mount ` + standInParent + `/([\w-]+)$`)
	zfsAsk   = regexp.MustCompile(`^get -H -p -o value mounted ` + standInParent + `/([\w-]+)$`)
	zfsQuota = regexp.MustCompile(`^set quota=(\d+) ` + standInParent + `/([\w-]+)$`)
	zfsGone  = regexp.MustCompile(`^destroy -r -f ` + standInParent + `/([\w-]+)$`)
)

func (h host) zfs(out io.Writer, args []string) error {
	text := strings.Join(args, " ")
	switch text {
	case "get -H -p -o value guid " + standInSnapshot:
		fmt.Fprintln(out, "1234567890")
		return nil
	case "list -H -o name -t filesystem -r -d 1 " + standInParent:
		fmt.Fprintf(out, "%s\n%[1]s/base\n", standInParent)
		for _, line := range h.lines("datasets") {
			if name, _, ok := strings.Cut(line, " "); ok {
				fmt.Fprintf(out, "%s/%s\n", standInParent, name)
			}
		}
		return nil
	}
	if found := zfsClone.FindStringSubmatch(text); found != nil {
		return h.zfsClone(found[2], found[1])
	}
	if found := zfsAsk.FindStringSubmatch(text); found != nil {
		at, err := h.mountpoint(found[1])
		fmt.Fprintln(out, map[bool]string{true: "yes", false: "no"}[mounted(at)])
		return err
	}
	if found := zfsMount.FindStringSubmatch(text); found != nil {
		return h.zfsMount(found[1])
	}
	if found := zfsQuota.FindStringSubmatch(text); found != nil {
		return h.zfsQuota(found[2], found[1])
	}
	if found := zfsGone.FindStringSubmatch(text); found != nil {
		return h.zfsDestroy(found[1])
	}
	return wrong("usage")
}

func (h host) mountpoint(name string) (string, error) {
	_, at, ok := strings.Cut(h.find("datasets", name), " ")
	if !ok {
		return "", wrong("cannot open '%s': dataset does not exist", name)
	}
	return at, nil
}

func mounted(at string) bool {
	return slices.ContainsFunc(mountpoints(), func(m mountpoint) bool { return m.at == at })
}

// zfsClone does not mount: see the comment at zfsClone of package jail.
func (h host) zfsClone(name, at string) error {
	if h.find("datasets", name) != "" {
		return wrong("cannot create '%s': dataset already exists", name)
	}
	h.add("datasets", name+" "+at)
	return nil
}

func (h host) zfsMount(name string) error {
	at, err := h.mountpoint(name)
	if err != nil {
		return err
	}
	if mounted(at) {
		return wrong("cannot mount '%s': filesystem already mounted", name)
	}
	if err := unix.Mount("dataset", at, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if told, err := exec.Command("cp", "-a", filepath.Join(string(h), "base")+"/.", at).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, told)
	}
	return nil
}

// zfsQuota counts what a clone has of its own.
func (h host) zfsQuota(name, quota string) error {
	at, err := h.mountpoint(name)
	if err != nil {
		return err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(at, &s); err != nil {
		return err
	}
	var size uint64
	if _, err := fmt.Sscan(quota, &size); err != nil {
		return err
	}
	size += (s.Blocks - s.Bfree) * uint64(s.Bsize)
	return unix.Mount("", at, "", unix.MS_REMOUNT, fmt.Sprint("size=", size))
}

func (h host) zfsDestroy(name string) error {
	at, err := h.mountpoint(name)
	if err != nil {
		return err
	}
	for _, m := range mountpoints() {
		if strings.HasPrefix(m.at, at+"/") {
			return wrong("cannot unmount '%s': %s is mounted below", at, m.at)
		}
	}
	if mounted(at) {
		if err := unix.Unmount(at, 0); err != nil {
			return fmt.Errorf("cannot destroy '%s': dataset is busy: %w", name, err)
		}
	}
	h.drop("datasets", name)
	return nil
}
