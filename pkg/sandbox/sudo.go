package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// sudoSocket is where a program started by sudo gets its end of the socket: sudo
// closes what is not a standard descriptor.
const sudoSocket = 0

// reclaimLimit is how long reclaiming may take: killing, and a look at every file.
const reclaimLimit = time.Minute

// sudoArgs is the command line of this program in a role, as another user.
func sudoArgs(account string, args ...string) (sudo string, line []string, err error) {
	if sudo, err = exec.LookPath("sudo"); err != nil {
		return "", nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	line = []string{"sudo", "-n", "-u", account, "--", program, supervisorName}
	return sudo, append(line, args...), nil
}

// startBySudo starts a supervisor in namespaces as another user.
func startBySudo(a Account) (*handle, error) {
	sudo, line, err := sudoArgs(a.Name, roleAccount)
	if err != nil {
		return nil, err
	}
	h, err := startProcess(sudo, line, sudoSocket, supervisorAttributes())
	if err != nil {
		return nil, err
	}
	h.evict = func() error { return reclaimBySudo(a) }
	return h, nil
}

// reclaimTries is how often reclaiming is tried: what an earlier worker began before it
// was killed kills ours as one of the account's processes, and ends.
const reclaimTries = 3

// reclaimBySudo has the account kill its processes and open up its files below the
// directories.
func reclaimBySudo(a Account, dirs ...string) (err error) {
	for range reclaimTries {
		err = tryReclaim(a, dirs)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Exited() {
			return err
		}
	}
	return err
}

func tryReclaim(a Account, dirs []string) error {
	sudo, line, err := sudoArgs(a.Name, append([]string{roleReclaim}, dirs...)...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), reclaimLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, sudo, line[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("reclaiming from account %s: %w: %s", a.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// reclaim is the other side of reclaimBySudo.
func reclaim(dirs []string) error {
	uid := uint32(os.Geteuid())
	if uid == 0 {
		return errors.New("reclaiming is not for root")
	}
	if n := killUser(uid); n > 0 {
		return fmt.Errorf("%w (%d of them)", ErrLeftover, n)
	}
	var failures []error
	for _, dir := range dirs {
		failures = append(failures, openUp(dir))
	}
	return errors.Join(failures...)
}
