package builder_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports is the table of ARCHITECTURE.md: what each package may import of this
// project, tests left aside. It points one way: each line only names lines
// above it.
var imports = []struct {
	name string
	may  []string
}{
	{"pkg/der", nil},
	{"pkg/stack", nil},
	{"pkg/disk", nil},
	{"pkg/disk/disktest", []string{"pkg/disk"}},
	{"pkg/job", []string{"pkg/der"}},
	{"pkg/wire", []string{"pkg/der", "pkg/job"}},
	{"pkg/schedule", []string{"pkg/der", "pkg/job"}},
	{"pkg/life", []string{"pkg/job"}},
	{"pkg/journal", []string{"pkg/disk"}},
	{"pkg/console", []string{"pkg/disk", "pkg/job"}},
	{"pkg/login", nil},
	{"pkg/pace", nil},
	{"pkg/remote", []string{"pkg/job", "pkg/login", "pkg/pace"}},
	{"pkg/remote/remotetest", nil},
	{"pkg/template", []string{"pkg/job"}},
	{"pkg/retention", []string{"pkg/job"}},
	{"pkg/store", []string{"pkg/console", "pkg/der", "pkg/disk", "pkg/job", "pkg/journal", "pkg/retention", "pkg/wire"}},
	{"pkg/upload", []string{"pkg/job", "pkg/login", "pkg/pace"}},
	{"pkg/hooks", []string{"pkg/job"}},
	{"pkg/sandbox", []string{"pkg/disk", "pkg/job"}},
	{"pkg/sandbox/container", []string{"pkg/job", "pkg/sandbox"}},
	{"pkg/sandbox/container/containertest", []string{"pkg/sandbox/container"}},
	{"pkg/sandbox/conform", []string{"pkg/job", "pkg/sandbox"}},
	{"pkg/sandbox/jail", []string{"pkg/job", "pkg/sandbox"}},
	{"pkg/worker", []string{"pkg/disk", "pkg/job", "pkg/remote", "pkg/sandbox", "pkg/stack", "pkg/wire"}},
	{"pkg/server", []string{
		"pkg/console", "pkg/disk", "pkg/hooks", "pkg/job", "pkg/journal", "pkg/life", "pkg/remote", "pkg/retention", "pkg/schedule", "pkg/stack", "pkg/store", "pkg/template", "pkg/upload", "pkg/wire",
	}},
	{"pkg/client", []string{"pkg/job", "pkg/wire"}},
	{"pkg/program", []string{"pkg/job"}},
	{"cmd/builder-server", []string{"pkg/hooks", "pkg/job", "pkg/login", "pkg/program", "pkg/remote", "pkg/server", "pkg/store", "pkg/upload", "pkg/wire"}},
	{"cmd/builder-worker", []string{"pkg/disk", "pkg/job", "pkg/login", "pkg/program", "pkg/remote", "pkg/sandbox", "pkg/sandbox/container", "pkg/sandbox/jail", "pkg/wire", "pkg/worker"}},
	{"cmd/builder-client", []string{"pkg/client", "pkg/job", "pkg/program", "pkg/wire"}},
}

// TestImports holds the table against the code.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./pkg/...", "./cmd/...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	real := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		var own []string
		for _, path := range p.Imports {
			if name, ok := strings.CutPrefix(path, "builder/"); ok {
				own = append(own, name)
			}
		}
		real[strings.TrimPrefix(p.ImportPath, "builder/")] = own
	}
	above := map[string]bool{}
	for _, line := range imports {
		for _, name := range line.may {
			if !above[name] {
				t.Errorf("the table lets %s import %s, which does not stand above it", line.name, name)
			}
		}
		above[line.name] = true
		own, exists := real[line.name]
		if !exists {
			t.Errorf("the table has %s, which does not exist", line.name)
		}
		for _, name := range own {
			if !slices.Contains(line.may, name) {
				t.Errorf("%s imports %s", line.name, name)
			}
		}
		for _, name := range line.may {
			if exists && !slices.Contains(own, name) {
				t.Errorf("the table lets %s import %s, which it does not need", line.name, name)
			}
		}
		delete(real, line.name)
	}
	for _, name := range slices.Sorted(maps.Keys(real)) {
		if !strings.Contains(name, "/internal/") && !strings.HasPrefix(name, "scripts/") {
			t.Errorf("the table lacks %s", name)
		}
	}
}
