package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock makes this process the only user of the directory dir, which must exist:
// it locks the file "lock" in it and writes its process id there. It does not
// wait. The lock ends with release or with the process, however that dies; the
// file stays. release must be kept: what is garbage is closed. Processes on other
// machines are not kept out of a directory on a network file system.
//
// It goes to the operating system directly, not through an [FS]: a lock is
// between processes and nothing of it must survive a power cut.
func Lock(dir string) (release func() error, err error) {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s: stop that process first, or use another directory", holder(f))
	}
	if err == nil {
		err = writeHolder(f)
	}
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, errors.Join(err, f.Close()))
	}
	return f.Close, nil
}

// holder says who holds the lock. The holder writes its id just after it got
// the lock, so for an instant there may be none.
func holder(f *os.File) string {
	id, err := io.ReadAll(io.LimitReader(f, 20))
	if pid := strings.TrimSpace(string(id)); err == nil && pid != "" {
		return "in use by process " + pid
	}
	return "in use by another process"
}

func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(f, os.Getpid())
	return err
}
