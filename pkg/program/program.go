// Package program holds what the three programs do alike: their version, their
// log, their exit status, their default directories.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Version is set by the linker for releases; else it is taken from what Go
// notes about the module and the revision it was built from.
var Version = ""

// version is what --version prints and peers are told.
func version() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return "devel-" + setting.Value[:12]
		}
	}
	return "devel"
}

// Name is the program's name and version, as peers are told.
func Name(command string) string { return command + " " + version() }

// Logger makes the log of a daemon: lines for people on a terminal, JSON
// otherwise. That nobody reads it any more (a pipe that was closed) does not end
// the program from then on.
func Logger(out *os.File, level string) (zerolog.Logger, error) {
	parsed, err := zerolog.ParseLevel(level)
	// That knows others, with which a daemon says nothing of its errors.
	if err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, level) {
		return zerolog.Logger{}, Usage(fmt.Errorf("log level %q is unknown: use debug, info, warn or error", level))
	}
	// By default Go ends a process whose standard error is such a pipe. The signal
	// is caught and not ignored: the scripts of builds would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	zerolog.ErrorHandler = func(error) {} // it would be told on standard error
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Second
	zerolog.ErrorFieldName = "err"
	var w io.Writer = out
	if term.IsTerminal(int(out.Fd())) {
		w = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}

// usageError is an error of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage marks err as an error of the command line: exit status 2.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// statusError is an error with an exit status of its own.
type statusError struct {
	error
	status int
}

func (e statusError) Unwrap() error { return e.error }

// Status gives err an exit status other than 1.
func Status(err error, status int) error { return statusError{err, status} }

// ErrSilent is an error that was told already, or needs no telling: exit status 1.
var ErrSilent = errors.New("")

// Main runs a command and returns the process's exit status: 0, 1 after an
// error or what Status says, 2 after one of the command line. The error goes to
// standard error.
func Main(ctx context.Context, root *cobra.Command) int {
	root.Version = version()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	command, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrSilent):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%s: %v\nRun '%s --help' for usage.\n", root.Name(), err, command.CommandPath())
		return 2
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	var status statusError
	if errors.As(err, &status) {
		return status.status
	}
	return 1
}

// DataDir is where a server keeps its data by default: the reference's place.
func DataDir() string {
	if runtime.GOOS == "freebsd" {
		return "/var/db/builder"
	}
	return "/var/lib/builder"
}

// ConfigDir is where a server's templates lie by default: the reference's place.
func ConfigDir() string {
	if runtime.GOOS == "freebsd" {
		return "/usr/local/etc/builder"
	}
	return "/etc/builder"
}

// Sibling finds another of the three programs: beside this one, else in PATH.
func Sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return path, nil
	}
	return lookPath(name, path)
}

func lookPath(name, beside string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("finding %s: it is neither %s nor in PATH", name, beside)
	}
	return path, nil
}
