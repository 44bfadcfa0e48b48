// Package hooks runs the executables of a directory when a build was stored, as
// builder-web does: to put a package into a repository, say.
//
// A hook gets what it needs in two ways. Its arguments are those of builder-web:
//
//	--build-time=YYYYMMDDhhmmss --job= --uuid= --platform= --cache-dir= --data-dir=
//	--sha256= --main-binary-filepath= FILE
//
// the last line only when the build has a main binary, which is the one artifact in
// bin/, if it is one; FILE has its contents. And its standard input is one JSON object
// ([Facts]). Its output goes to the log.
//
// The hooks of a build run one after the other, in the order of their names, also
// when one has failed. The invariant: when Run has returned, no process of a hook is
// left, unless it has left its process group.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"builder/pkg/job"

	"github.com/rs/zerolog"
)

// Dir is a directory of hooks.
type Dir struct {
	Path  string
	Cache string // a directory that hooks may use, made when it is needed; their working directory
	Data  string // the server's data
	// Timeout is how long a hook may run: then it gets SIGTERM, and SIGKILL when it is
	// not gone after Grace.
	Timeout, Grace time.Duration
}

// The defaults of Dir. The server waits for the end of its hooks when it is stopped,
// and is to be gone in 5 seconds.
const (
	DefaultTimeout = 10 * time.Minute
	DefaultGrace   = 3 * time.Second
)

// FailedError says which hooks failed.
type FailedError struct{ Text string }

// Error implements error.
func (e *FailedError) Error() string { return e.Text }

// Names are the hooks: executable files, but for what editors keep of others, in order.
// There are none when there is no directory.
func (d Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for hooks: %w", err)
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		info, err := os.Stat(filepath.Join(d.Path, name)) // what a link points at
		if err != nil || job.IsBackup(name) || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			continue // also one that has just gone
		}
		names = append(names, name)
	}
	return names, nil
}

// Run runs all hooks for a build. A hook that fails, or takes too long, makes it a
// [FailedError], after the others have run; any other error says that not all were
// run, as when ctx is done, which ends the one that runs.
func (d Dir) Run(ctx context.Context, facts Facts, log zerolog.Logger) error {
	names, err := d.Names()
	if err != nil || len(names) == 0 {
		return err
	}
	if err := d.makeAbsolute(); err != nil {
		return err
	}
	if err := os.MkdirAll(d.Cache, 0o755); err != nil {
		return fmt.Errorf("making the hooks' directory: %w", err)
	}
	input, err := facts.encode()
	if err != nil {
		return err
	}
	var failures []string
	for _, name := range names {
		log := log.With().Str("hook", name).Logger()
		begin := time.Now()
		err := d.run(ctx, name, facts.arguments(d), input, log)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			log.Error().Err(err).Dur("dur", time.Since(begin)).Msg("hook failed")
			failures = append(failures, fmt.Sprintf("hook %s: %v", name, err))
		default:
			log.Info().Dur("dur", time.Since(begin)).Msg("hook ended")
		}
	}
	if failures != nil {
		return &FailedError{strings.Join(failures, "; ")}
	}
	return nil
}

// makeAbsolute is for hooks, whose working directory is another.
func (d *Dir) makeAbsolute() error {
	for _, path := range []*string{&d.Path, &d.Cache, &d.Data} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("looking for hooks: %w", err)
		}
		*path = absolute
	}
	return nil
}
