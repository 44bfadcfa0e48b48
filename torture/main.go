// Command torture has the three programs suffer: it kills, stops and restarts
// server, workers, supervisors and clients, lets a proxy cut, delay, swallow and
// repeat what they say to each other, and fills their disks, while hundreds of
// builds run whose console and artifacts are known. Builds are uploaded to two
// frontends and put into an HTTP store, which fail as well, pinned, pruned,
// downloaded and verified meanwhile.
//
// Then it lets all of them rest and looks whether every run that was acknowledged has
// ended, with one result each, uploaded as it is, nothing was lost, doubled, changed
// or left behind, and just that has gone that had to go.
//
//	go run ./torture [-rounds N] [-seed S] [-for 30s] [-jobs N]
//
// Rounds are independent; the seed of each is printed, and repeats its plan.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "payload" {
		var p payload
		err := json.Unmarshal([]byte(os.Args[2]), &p)
		if err == nil {
			err = p.play()
		}
		fmt.Fprintln(os.Stderr, "payload:", err)
		os.Exit(120)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	rounds := flag.Int("rounds", 1, "how many rounds, one after the other")
	seed := flag.Uint64("seed", 0, "of the first round; 0 draws one")
	takes := flag.Duration("for", 30*time.Second, "how long a round's faults go on")
	jobs := flag.Int("jobs", 160, "jobs in a round")
	keep := flag.Bool("keep", false, "keep the directory of a round in which nothing was found, too")
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano()) //nolint:gosec // any number does
	}
	if err := run(ctx, *rounds, *seed, *takes, *jobs, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, rounds int, seed uint64, takes time.Duration, jobs int, keep bool) (err error) {
	// Not TMPDIR: that may be memory, where a sync costs nothing.
	root, err := os.MkdirTemp(".", "torture.tmp.")
	if err != nil {
		return err
	}
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	defer func() {
		if err == nil && !keep {
			err = os.RemoveAll(root)
		}
	}()
	bin := filepath.Join(root, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin+"/",
		"./cmd/builder-server", "./cmd/builder-worker", "./cmd/builder-client", "./torture")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the programs: %w", err)
	}
	for i := range rounds {
		seed := seed + uint64(i) //nolint:gosec // it is not negative
		r := &round{seed: seed, dir: filepath.Join(root, fmt.Sprintf("round%d", i)), bin: bin, takes: takes, jobs: jobs, keep: keep}
		fmt.Printf("round %d: SEED=%d\n", i+1, seed)
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("round %d, SEED=%d: %w", i+1, seed, err)
		}
		for _, found := range r.findings {
			fmt.Println("FOUND:", found)
		}
		fmt.Println(r.summary())
		switch {
		case len(r.findings) > 0:
			return fmt.Errorf("%d findings in round %d; repeat it with SEED=%d; the logs and the data are in %s", len(r.findings), i+1, seed, r.dir)
		case ctx.Err() != nil:
			return errors.New("interrupted")
		case !keep:
			if err := os.RemoveAll(r.dir); err != nil {
				return err
			}
		}
	}
	return nil
}
