package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Account is a user that scripts run as.
type Account struct {
	Name string
	credential
}

// LookupAccount finds the account of that name. It can be neither root nor the user
// of this process: what is left of such is killed after a build.
func LookupAccount(name string) (Account, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return Account{}, fmt.Errorf("looking for account: %w", err)
	}
	a := Account{Name: name}
	groups, err := found.GroupIds()
	if err != nil {
		return Account{}, fmt.Errorf("looking for the groups of %s: %w", name, err)
	}
	for _, text := range groups {
		if err := parseID(text, &a.UID); err != nil {
			return Account{}, err
		}
		a.Groups = append(a.Groups, a.UID)
	}
	if err := errors.Join(parseID(found.Uid, &a.UID), parseID(found.Gid, &a.GID)); err != nil {
		return Account{}, err
	}
	if a.UID == 0 || int(a.UID) == os.Getuid() || int(a.UID) == os.Geteuid() {
		return Account{}, fmt.Errorf("account %s can not be one for builds: it has the user id %d", name, a.UID)
	}
	return a, nil
}

func parseID(text string, id *uint32) error {
	n, err := strconv.ParseUint(text, 10, 32)
	*id = uint32(n)
	return err
}

// killUser kills all processes of a user but this one, for as long as there is any,
// but at most killLimit. It reports how many are left.
func killUser(uid uint32) int {
	kill := func() int { return killAll(func() []int { return processesOf(uid) }) }
	if os.Geteuid() != 0 {
		// At once, so that no fork gets away. To stop them first would stop their sudo for
		// good: it does as its child does.
		kill = func() int {
			unix.Kill(-1, unix.SIGKILL) //nolint:errcheck // there may be none
			return len(processesOf(uid))
		}
	}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		n := kill()
		if n == 0 || time.Since(start) > killLimit {
			return n
		}
	}
}
