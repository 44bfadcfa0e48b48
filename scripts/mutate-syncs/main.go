// Mutate-syncs shows that no sync call is there without a test that needs it: it
// takes away one call of Sync or SyncDir at a time and runs the tests, which must
// fail. A call that no test misses is redundant, or the tests are too weak.
//
// Run it at the root of the module: go run ./scripts/mutate-syncs [SUBJECT...]
// Nothing in the tree is changed: the compiler gets the file without the call
// from elsewhere (go help build, -overlay).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// subject is code with the tests that must miss each of its sync calls.
type subject struct {
	files string // a pattern; test files are left out
	tests []string
	runs  []string // those that can miss one, the likely ones first; all where there are none
	env   []string // what makes the tests as thorough as this needs
}

// subjects are by name. pkg/disk/disk.go is not among them: it is the system
// calls themselves, which no test can see the effect of.
var subjects = map[string]subject{
	"disk": {
		files: "pkg/disk/write.go",
		tests: []string{"./pkg/disk/"},
	},
	"journal": {
		files: "pkg/journal/*.go",
		tests: []string{"./pkg/journal/"},
	},
	"console": {
		files: "pkg/console/*.go",
		tests: []string{"./pkg/console/", "./pkg/store/"},
		runs:  []string{"PowerCut"},
		env:   []string{"STORE_ROUNDS=2"},
	},
	"store": {
		files: "pkg/store/*.go",
		tests: []string{"./pkg/store/"},
		runs:  []string{"PowerCut", "^TestKill$|^TestFaults$"},
		env:   []string{"STORE_ROUNDS=3"},
	},
}

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutate-syncs:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, names []string) error {
	if len(names) == 0 {
		for name := range subjects {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	dir, err := os.MkdirTemp("", "mutate-syncs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	survivors := 0
	for _, name := range names {
		s, ok := subjects[name]
		if !ok {
			return fmt.Errorf("there is no subject %q", name)
		}
		if output, err := s.test(""); err != nil {
			return fmt.Errorf("the tests of %s fail before anything is changed: %w\n%s", name, err, output)
		}
		n, err := s.mutate(out, filepath.Join(dir, name))
		if err != nil {
			return err
		}
		survivors += n
	}
	if survivors > 0 {
		return fmt.Errorf("%d sync calls are missed by no test", survivors)
	}
	return nil
}

// mutant is a file without one of its calls.
type mutant struct {
	call
	file    string
	source  []byte
	verdict string
	lives   bool
}

// mutate takes away each call once, as many at a time as there are processors, and
// returns how many were not missed.
func (s subject) mutate(out io.Writer, dir string) (survivors int, err error) {
	mutants, err := s.mutants()
	if err != nil {
		return 0, err
	}
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for i, m := range mutants {
		group.Go(func() error {
			overlay, err := m.write(filepath.Join(dir, strconv.Itoa(i)))
			if err != nil {
				return err
			}
			output, err := s.test(overlay)
			switch {
			case err == nil:
				m.verdict, m.lives = "NOT MISSED", true
			case !bytes.Contains(output, []byte("--- FAIL")):
				return fmt.Errorf("%s:%d: the tests did not run: %w\n%s", m.file, m.line, err, output)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	for _, m := range mutants {
		if m.lives {
			survivors++
		}
		if _, err := fmt.Fprintf(out, "%s:%d: %s: %s\n", m.file, m.line, m.source[m.begin:m.end], m.verdict); err != nil {
			return survivors, err
		}
	}
	return survivors, nil
}

// mutants are all of a subject, of which there is one at least.
func (s subject) mutants() ([]*mutant, error) {
	files, err := filepath.Glob(s.files)
	if err != nil {
		return nil, err
	}
	var mutants []*mutant
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		calls, err := syncCalls(name, source)
		if err != nil {
			return nil, err
		}
		for _, c := range calls {
			mutants = append(mutants, &mutant{call: c, file: name, source: source, verdict: "missed"})
		}
	}
	if len(mutants) == 0 {
		return nil, fmt.Errorf("there is no sync call in %s", s.files)
	}
	return mutants, nil
}

// test runs the tests until some fail.
func (s subject) test(overlay string) (output []byte, err error) {
	args := []string{"test", "-count=1", "-failfast", "-vet=off"}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	runs := s.runs
	if len(runs) == 0 {
		runs = []string{"."}
	}
	for _, tests := range runs {
		cmd := exec.Command("go", slices.Concat(args, []string{"-run", tests}, s.tests)...) //nolint:noctx,gosec // go test ends by its own timeout; our own names
		cmd.Env = append(os.Environ(), s.env...)
		if output, err = cmd.CombinedOutput(); err != nil {
			break
		}
	}
	return output, err
}

// call is one call in a source file.
type call struct {
	line       int
	begin, end int // of the call
	fun        int // where the function's name ends
}

func syncCalls(name string, source []byte) ([]call, error) {
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var calls []call
	ast.Inspect(tree, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := c.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Sync" || f.Sel.Name == "SyncDir") {
			at := files.Position(c.Pos())
			calls = append(calls, call{at.Line, at.Offset, files.Position(c.End()).Offset, files.Position(f.End()).Offset})
		}
		return true
	})
	return calls, nil
}

// without returns the source with a function in place of the called one that does
// nothing. It takes the same arguments, so that no variable becomes unused.
func (c call) without(source []byte) []byte {
	return slices.Concat(source[:c.begin],
		[]byte("func(_ any, _ ...any) error { return nil }("),
		receiver(source[c.begin:c.fun]),
		[]byte(", "),
		source[c.fun+1:])
}

// receiver is what precedes the last dot.
func receiver(selector []byte) []byte {
	return selector[:bytes.LastIndexByte(selector, '.')]
}

// write makes a directory with a file for the compiler that replaces the mutant's.
func (m *mutant) write(dir string) (overlay string, err error) {
	absolute, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(file, m.without(m.source), 0o600); err != nil {
		return "", err
	}
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{absolute: file}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replaced, 0o600)
}
