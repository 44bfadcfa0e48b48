package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"builder/pkg/disk"
)

// Exit statuses of a script that could not be executed, as shells have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// WriteScript makes the script's file, which everybody may execute. No process is forked meanwhile
// (ForkLock): a child made by another goroutine would hold the descriptor open
// for writing until it executes something itself, and the kernel refuses to
// execute a file that anyone has open for writing (ETXTBSY).
func WriteScript(path string, script []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := disk.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o555)
	if err != nil {
		return err
	}
	_, err = f.Write(script)
	return errors.Join(err, f.Close())
}

// command is what to execute for the script in the file path. The kernel knows
// what to do with #! and with its own binaries; the rest is for the shell.
func command(path string, script []byte) []string {
	if bytes.HasPrefix(script, []byte("#!")) || bytes.HasPrefix(script, []byte("\x7fELF")) {
		return []string{path}
	}
	return []string{"/bin/sh", path}
}

// execFailure judges why the kernel did not execute a script. Either it is the
// script's fault: then text says so to whoever wrote it, and code is its exit
// status. Or it is the machine's, and ok is false.
func execFailure(script []byte, errno syscall.Errno) (text string, code int, ok bool) {
	code = exitNotExecutable
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		code = exitNotFound
	case syscall.EACCES, syscall.ENOEXEC, syscall.E2BIG, syscall.ELOOP,
		syscall.ENAMETOOLONG, syscall.EPERM, syscall.EINVAL:
	default:
		return "", 0, false
	}
	what := "the script"
	if interpreter, found := interpreter(script); found {
		what = fmt.Sprintf("the interpreter %q of the script", interpreter)
	}
	return fmt.Sprintf("builder: executing %s: %v\n", what, errno), code, true
}

// interpreter is the program that the #! line names.
func interpreter(script []byte) (string, bool) {
	line, found := bytes.CutPrefix(script, []byte("#!"))
	if !found {
		return "", false
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	name, _, _ := strings.Cut(strings.TrimLeft(string(line), " \t"), " ")
	return name, name != ""
}
