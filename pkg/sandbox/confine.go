package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// confinement is what the supervisor of a fenced build does to itself and to the
// script, before it runs that. Such a supervisor runs one build only. The zero value
// does nothing.
type confinement struct {
	// Hide is the directory of all places; nothing of it stays visible but Place.
	Hide, Place string
	// Temp takes the place of the machine's directories for temporary files.
	Temp string
	// Offline leaves nothing of the network but a loopback device.
	Offline bool
	// User is whom the script runs as.
	User *credential
	// Processes is how many processes and threads the user may have, 0 any number.
	Processes int64
	// Groups are the control groups that the script is started in.
	Groups joined
	// Renounce has the script not get the rights over its namespaces that the
	// supervisor has.
	Renounce bool
}

type credential struct {
	UID, GID uint32
	Groups   []uint32
}

// step names what a supervisor could not do, in a reply.
type step uint32

const (
	stepScript step = iota // executing the script
	stepHide
	stepOffline
	stepLimit
	stepRenounce
	stepJoin
	stepDecode
)

func (s step) String() string {
	switch s {
	case stepHide:
		return "hiding other builds and making /tmp private"
	case stepOffline:
		return "leaving the network"
	case stepLimit:
		return "limiting the number of processes"
	case stepRenounce:
		return "renouncing privileges"
	case stepJoin:
		return "joining control groups"
	case stepDecode:
		return "reading what to confine"
	default:
		return "starting script"
	}
}

// confine does what is asked for, and answers for the run that follows.
func (s *supervisor) confine(body []byte) reply {
	runtime.LockOSThread() // some of what follows is the thread's
	s.confinement = confinement{}
	if err := json.Unmarshal(body, &s.confinement); err != nil {
		return reply{Step: stepDecode, Errno: uint32(unix.EINVAL)}
	}
	c := s.confinement
	for _, part := range []struct {
		step step
		do   func() error
	}{
		{stepHide, c.hide},
		{stepOffline, c.leaveNetwork},
		{stepLimit, c.limitProcesses},
		{stepRenounce, c.renounce},
	} {
		if err := part.do(); err != nil {
			fmt.Fprintf(os.Stderr, "builder: supervisor: %v: %v\n", part.step, err)
			return reply{Step: part.step, Errno: errnoOf(err)}
		}
	}
	return reply{}
}

// attributes adds what is the script's alone to the attributes of its process.
func (c confinement) attributes(sys *syscall.SysProcAttr) *syscall.SysProcAttr {
	if c.User != nil {
		sys.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID, Groups: c.User.Groups}
	}
	return sys
}

// joined are the control groups of a build.
type joined struct {
	Tasks   []string // files of version 1, one for each controller
	Unified string   // directory of version 2, "" if there is none
}

// limitProcesses sets a limit that root's supervisor itself is not held to. One of
// an ordinary user is: its own threads, and some more to come, are allowed besides.
func (c confinement) limitProcesses() error {
	if c.Processes == 0 {
		return nil
	}
	most := uint64(c.Processes)
	if c.User == nil {
		most += ownThreads
	}
	return setProcessLimit(most)
}

// ownThreads are allowed for those of a supervisor that counts as one of the
// build's processes.
const ownThreads = 16

var errNoNamespaces = errors.New("this system has no namespaces")
