package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// keeper sees to what is kept: it pins builds, lets time pass for what was uploaded,
// prunes, and verifies what there is.
type keeper struct {
	fleet *fleet
	find  func(format string, args ...any)

	mu     sync.Mutex
	pinned map[uuid.UUID]time.Time // what must stay, and since when at the latest
	loose  map[uuid.UUID]bool      // what was let go at some time: that may pass a pin

	fetched map[string]job.Build // by the directory
}

func newKeeper(f *fleet, find func(string, ...any)) *keeper {
	return &keeper{
		fleet: f, find: find,
		pinned: map[uuid.UUID]time.Time{}, loose: map[uuid.UUID]bool{}, fetched: map[string]job.Build{},
	}
}

// What keepers do.
const (
	pins     = "pin"
	ages     = "age"
	prunes   = "prune"
	verifies = "verify"
)

// do does one step, once: what did not reach the server is as it may.
func (k *keeper) do(ctx context.Context, s step) (done bool, err error) {
	switch s.what {
	case ages:
		return true, k.age(s.dice)
	case verifies:
		return k.verify(ctx, true), nil
	}
	asked := k.fleet.client(false)
	defer asked.Close() //nolint:errcheck // nothing was kept back
	switch s.what {
	case prunes:
		_, err := asked.Prune(ctx, "", false)
		return err == nil, nil
	case downloads:
		return k.download(ctx, asked, s), nil
	}
	return k.pin(ctx, asked, s.dice), nil
}

// pin pins one of all builds; some it lets go again.
func (k *keeper) pin(ctx context.Context, asked *client.Client, dice int) bool {
	builds, err := asked.Builds(ctx, "", 1000)
	if err != nil || len(builds) == 0 {
		return false
	}
	id := builds[dice%len(builds)].UUID
	if _, err := asked.Pin(ctx, id.String(), false); err != nil {
		return false
	}
	if dice%5 == 0 {
		k.letGo(id)
		asked.Pin(ctx, id.String(), true) //nolint:errcheck // it may stay pinned
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.loose[id] {
		k.pinned[id] = time.Now()
	}
	return true
}

func (k *keeper) letGo(id uuid.UUID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loose[id] = true
	delete(k.pinned, id)
}

// age makes the uploads of half of the builds eight days older.
func (k *keeper) age(dice int) error {
	marks, err := filepath.Glob(filepath.Join(k.fleet.data.dir, "v1", "builds", "*", "*", "uploaded"))
	if err != nil {
		return err
	}
	for _, mark := range marks {
		if int(filepath.Base(filepath.Dir(mark))[0])%2 == dice%2 {
			os.Chtimes(mark, time.Time{}, time.Now().Add(-8*24*time.Hour)) //nolint:errcheck // it has gone
		}
	}
	return nil
}

// verify runs builder-server verify, which may find nothing. In a storm it may fail to
// reach the depot.
func (k *keeper) verify(ctx context.Context, storm bool, args ...string) bool {
	const unverified = 2
	args = append([]string{"verify", "--dir", k.fleet.data.dir, "--store", k.fleet.depot.url()}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(k.fleet.bin, "builder-server"), args...) //nolint:gosec // ours
	text, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return true
	case ctx.Err() != nil:
	case storm && cmd.ProcessState.ExitCode() == unverified && strings.Contains(string(text), k.fleet.depot.url()):
	default:
		k.find("%s: %v: %s", strings.Join(cmd.Args[1:], " "), err, shorten(string(text)))
	}
	return false
}

// has reports whether a build has a mark, and since when.
func (k *keeper) has(name string, id uuid.UUID, mark string) (time.Time, bool) {
	info, err := os.Stat(filepath.Join(k.fleet.data.dir, "v1", "builds", name, id.String(), mark))
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// prune removes, when all is at rest, what retention says, and looks whether that was
// just what it has to be.
func (k *keeper) prune(ctx context.Context, asked *client.Client, c *customer) error {
	var before, after []job.Build
	var again wire.PruneReply
	for _, ask := range []func() error{
		func() (err error) { before, err = asked.Builds(ctx, "", 1_000_000); return err },
		func() (err error) { _, err = asked.Prune(ctx, "", false); return err },
		func() (err error) { again, err = asked.Prune(ctx, "", true); return err },
		func() (err error) { after, err = asked.Builds(ctx, "", 1_000_000); return err },
	} {
		if err := insist(ctx, ask); err != nil {
			return fmt.Errorf("pruning at rest: %w", err)
		}
	}
	if len(again.Builds) > 0 || again.Orphans > 0 || again.Damaged > 0 {
		k.find("pruning once more would do %+v", again)
	}
	stays := map[uuid.UUID]bool{}
	for _, b := range after {
		stays[b.UUID] = true
	}
	for _, s := range standings(before) {
		o, _ := c.order(s.Job)
		_, pinned := k.has(s.Job, s.UUID, "pinned")
		bound := o.job.Retention
		switch {
		case (s.last || pinned || bound.Builds+bound.Bytes == 0) && !stays[s.UUID]:
			k.find("build %v of %s is gone: %+v", s.UUID, s.Job, s.standing)
		case bound.Builds > 0 && !s.last && !pinned && stays[s.UUID] != (s.nth < bound.Builds):
			k.find("build %v of %s is there (%v), of which %d builds are kept: %+v", s.UUID, s.Job, stays[s.UUID], bound.Builds, s.standing)
		}
	}
	return nil
}

// insist asks until there is an answer: on a busy machine connections break at rest,
// too.
func insist(ctx context.Context, ask func() error) error {
	for begun := time.Now(); ; rest(ctx, beat/5) {
		err := ask()
		var refused *client.RefusedError
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil || time.Since(begun) > patience {
			return err
		}
	}
}
