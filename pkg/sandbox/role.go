package sandbox

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// What a supervisor process is started as; plain without an argument.
const (
	// roleSpaced is the first process of new namespaces.
	roleSpaced = "namespaces"
	// roleAccount is started by sudo, with the socket as standard input: it starts
	// one in namespaces, as the same user.
	roleAccount = "account"
	// roleReclaim is started by sudo: it kills all other processes of its user, and
	// lets the worker at the files below the directories that are named.
	roleReclaim = "reclaim"
)

// take takes the role that the arguments name. It reports whether that was all that
// this process is for.
func take(args []string) (done bool, err error) {
	if args[0] == supervisorName {
		args = args[1:]
	}
	switch {
	case len(args) == 0:
		return false, nil
	case args[0] == roleSpaced:
		return false, enterSpaces()
	case args[0] == roleAccount:
		return true, superviseInSpaces()
	case args[0] == roleReclaim:
		return true, reclaim(args[1:])
	}
	return true, fmt.Errorf("there is no %q", args[0])
}

// superviseInSpaces starts a supervisor in namespaces, which gets the socket, and
// ends with it. A process with threads can not move to a user namespace itself.
func superviseInSpaces() error {
	self, err := self()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer shut(null)
	sys := spaced(supervisorAttributes())
	sys.Pdeathsig = unix.SIGKILL
	process, err := os.StartProcess(self, []string{supervisorName, roleSpaced}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{null, null, os.Stderr, os.Stdin}, Sys: sys,
	})
	if err != nil {
		return fmt.Errorf("starting supervisor in namespaces: %w", err)
	}
	state, err := process.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	return err
}
