package hooks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/rs/zerolog"
)

// run runs one hook to its end.
func (d Dir) run(ctx context.Context, name string, args []string, input []byte, log zerolog.Logger) error {
	// The kernel kills the hook when the thread that started it ends, which that of a
	// server does that is killed: the next server runs the hook again, and two at the
	// same time are more than it may expect.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	timeout := cmp.Or(d.Timeout, DefaultTimeout)
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &output{log: log}
	cmd := exec.CommandContext(timed, filepath.Join(d.Path, name), args...)
	cmd.Dir, cmd.Env = d.Cache, environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	// Counts from Cancel, and from the end of the hook, for what holds its output.
	cmd.WaitDelay = cmp.Or(d.Grace, DefaultGrace)
	err := cmd.Run()
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // most left nobody behind
	}
	out.end()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case timed.Err() != nil && err != nil:
		return fmt.Errorf("it was ended, since it ran longer than %v", timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		return errors.New("it left processes behind that held its output open, which were killed")
	case errors.As(err, &exit):
		return fmt.Errorf("%v%s", exit, out.said())
	}
	return err
}

// environment is what a hook needs: nothing of the server's, which may have a
// password in its own.
func environment() []string {
	env := []string{"PATH=" + cmp.Or(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin")}
	for _, name := range []string{"HOME", "LANG", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
