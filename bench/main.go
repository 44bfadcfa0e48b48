// Command bench measures the programs as they are run: real processes, a real
// disk, the loopback network. Each figure stands beside a floor, a bare Go loop
// that does the least that would be needed, measured in the same run.
//
//	go run ./bench [-quick] [-run NAME]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// figure is one row of the table.
type figure struct {
	name   string
	value  string
	floor  string
	ratio  string
	target string
}

// bench is what a measurement has at hand.
type bench struct {
	bin   string // directory of the programs
	dir   string // empty directory of its own, on the disk that is measured
	quick bool
	flags []string // of the worker, beside those that it always has
}

// scale is n, or less when the numbers need not be good.
func (b *bench) scale(n int) int {
	if b.quick {
		return max(1, n/20)
	}
	return n
}

var measurements = []struct {
	name string
	run  func(context.Context, *bench) ([]figure, error)
}{
	{"jobs", jobs},
	{"latency", latency},
	{"schedule", handOuts},
	{"console", consoleLines},
	{"observers", observers},
	{"artifacts", artifacts},
	{"idle", idleWorkers},
	{"upload", upload},
	{"store", storePuts},
	{"verify", verify},
	{"index", index},
	{"isolation", isolation},
	{"containers", containers},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	quick := flag.Bool("quick", false, "a twentieth of the work: does it run at all?")
	var names []string
	for _, m := range measurements {
		names = append(names, m.name)
	}
	only := flag.String("run", "", "the one measurement to run: "+strings.Join(names, ", "))
	flag.Parse()
	if err := run(ctx, *quick, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, quick bool, only string) error {
	// Not TMPDIR: that may be memory, where a sync costs nothing.
	root, err := os.MkdirTemp(".", "bench.tmp.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root) //nolint:errcheck // what is left is seen
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	if err := os.Chmod(root, 0o711); err != nil { // accounts have to get to their places
		return err
	}
	bin := filepath.Join(root, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin+"/", "./cmd/builder-server", "./cmd/builder-worker")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the programs: %w", err)
	}
	fmt.Printf("%s, %s, %s/%s, %d processors\n\n", time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Println("| what | here | floor or peer | ratio | to reach |")
	fmt.Println("|---|---|---|---|---|")
	for _, m := range measurements {
		if only != "" && only != m.name {
			continue
		}
		b := &bench{bin: bin, dir: filepath.Join(root, m.name), quick: quick}
		if err := os.Mkdir(b.dir, 0o755); err != nil {
			return err
		}
		figures, err := m.run(ctx, b)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", m.name, err)
		}
		for _, f := range figures {
			fmt.Println("| " + strings.Join([]string{f.name, f.value, f.floor, f.ratio, f.target}, " | ") + " |")
		}
	}
	return nil
}
