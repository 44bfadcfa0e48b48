package main

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
)

// downloads is what keepers do as well: they fetch artifacts, whatever it takes.
const downloads = "download"

// download fetches the artifacts of one of all builds with the real client, which is
// killed at first, and goes on where it was. It reports false when the build has none,
// any more.
func (k *keeper) download(ctx context.Context, asked *client.Client, s step) bool {
	const killed = 3 // tries
	builds, err := asked.Builds(ctx, "", 1000)
	if err != nil || len(builds) == 0 {
		return false
	}
	b, err := asked.Describe(ctx, builds[s.dice%len(builds)].UUID.String(), "")
	if err != nil || len(b.Artifacts) == 0 {
		return false
	}
	dir := filepath.Join(k.fleet.dir, "downloads", fmt.Sprintf("%v-%d", s.at, s.dice))
	for try := 0; ctx.Err() == nil; try++ {
		most := time.Minute
		if try < killed {
			most = time.Duration(10+s.dice/2) * time.Millisecond
		}
		text, err := k.fetch(ctx, most, b, dir)
		switch {
		case err == nil:
			k.mu.Lock()
			k.fetched[dir] = b
			k.mu.Unlock()
			return true
		case strings.Contains(text, "no such build"), strings.Contains(text, "were pruned"):
			return false
		}
		rest(ctx, beat/5)
	}
	k.find("the artifacts of build %v of %s could not be downloaded to %s", b.UUID, b.Job, dir)
	return false
}

func (k *keeper) fetch(ctx context.Context, most time.Duration, b job.Build, dir string) (string, error) {
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	cmd := exec.CommandContext(ctx, filepath.Join(k.fleet.bin, "builder-client"), //nolint:gosec // ours
		"--remote", k.fleet.outside.address(), "--protocol", own, "--keepalive", beat.String(), "download", b.UUID.String(), "-o", dir)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// checkDownloads looks whether just the artifacts are there.
func (r *round) checkDownloads() error {
	for dir, b := range r.keeper.fetched {
		left := map[string]job.Content{}
		for _, a := range b.Artifacts {
			left[a.Path] = a.Content
		}
		err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			path, err := filepath.Rel(dir, name)
			if err != nil {
				return err
			}
			if got, err := contentOf(name); err != nil || left[path] != got {
				r.find("build %v: %s was downloaded as %v (%v), expected %v", b.UUID, name, got, err, left[path])
			}
			delete(left, path)
			return nil
		})
		if err != nil {
			return err
		}
		if len(left) > 0 {
			r.find("build %v: %v were not downloaded to %s", b.UUID, left, dir)
		}
	}
	return nil
}
