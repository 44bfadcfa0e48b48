package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// way is one in which a worker can isolate builds: a name for the table, and its flags.
type way struct {
	name  string
	flags []string
}

// isolations are the ways that need nothing to be started. The first is the one that the
// others stand beside. The accounts are on every Debian, and have nothing to do.
var isolations = []way{
	{"none", nil},
	{"none --namespaces", []string{"--namespaces"}},
	{"user", []string{"--isolation", "user", "--run-as", "games,news"}},
}

// isolation measures trivial jobs through two slots, in each way that works here.
func isolation(ctx context.Context, b *bench) (_ []figure, err error) {
	n := b.scale(200)
	var figures []figure
	var none float64
	further, stop := containerWays()
	defer func() { err = errors.Join(err, stop()) }()
	for _, way := range slices.Concat(isolations, further) {
		check := exec.CommandContext(ctx, filepath.Join(b.bin, "builder-worker"), append([]string{"check"}, way.flags...)...)
		if out, err := check.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "isolation %s is not measured: %v\n%s", way.name, err, out)
			continue
		}
		in := &bench{bin: b.bin, dir: filepath.Join(b.dir, strings.ReplaceAll(way.name, " ", "-")), quick: b.quick, flags: way.flags}
		if err := os.Mkdir(in.dir, 0o755); err != nil {
			return nil, err
		}
		var here float64
		if err := runJobs(ctx, in, n, 1, func(took time.Duration) error {
			here = perSecond(n, took)
			return nil
		}); err != nil {
			return nil, fmt.Errorf("isolation %s: %w", way.name, err)
		}
		f := figure{name: "trivial jobs, 2 slots, isolation " + way.name + ", jobs/s", value: fmt.Sprintf("%.1f", here)}
		if none == 0 {
			none = here
		} else {
			f.floor, f.ratio = fmt.Sprintf("%.1f with none", none), fmt.Sprintf("%.2f", here/none)
		}
		figures = append(figures, f)
	}
	return figures, nil
}
