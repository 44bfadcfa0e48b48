package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	cli "builder/cmd/builder-client"

	"builder/pkg/job"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const manualFile = "../../docs/manual/builder-client.md"

func manual(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The manual has every command and every flag.
func TestManualIsComplete(t *testing.T) {
	text := manual(t)
	for _, cmd := range cli.Command().Commands() {
		t.Run(cmd.Name(), func(t *testing.T) {
			if !regexp.MustCompile(`builder-client ` + cmd.Name() + `\b`).MatchString(text) {
				t.Error("the manual does not have it")
			}
			if cmd.Short == "" || cmd.Example == "" {
				t.Error("it has no short help or no example")
			}
			cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) { checkFlag(t, text, cmd, flag) })
		})
	}
}

func checkFlag(t *testing.T, text string, cmd *cobra.Command, flag *pflag.Flag) {
	t.Helper()
	if !strings.Contains(text, "--"+flag.Name) {
		t.Errorf("the manual does not have --%s of %s", flag.Name, cmd.Name())
	}
}

// The manual has every field of the JSON, and no others.
func TestManualHasTheJSON(t *testing.T) {
	_, section, ok := strings.Cut(manual(t), "\n## JSON\n")
	if !ok {
		t.Fatal("no section on JSON")
	}
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[match[1]] = true
	}
	printed := map[string]bool{}
	collectFields(t, printed, "", cli.StatusJSON(everything()))
	collectFields(t, printed, "", cli.OutboxJSON(fullOutbox()))
	build := map[string]bool{}
	collectFields(t, build, "", cli.ListedJSON(job.Build{Started: time.Unix(1, 0)}, job.Output{Path: "bin/x", Main: job.ContentOf(nil)}))
	collectFields(t, build, "", cli.FoundJSON(job.Build{Artifacts: []job.Artifact{{Path: "a"}}}))
	compared := map[string]bool{}
	collectFields(t, compared, "", cli.ComparisonJSON())
	for field := range compared {
		if !strings.HasPrefix(field, "a.") && !strings.HasPrefix(field, "b.") { // builds
			build["comparison."+field] = true
		}
	}
	collectFields(t, build, "", cli.RecordJSON(job.Build{
		Started: time.Unix(1, 0), Artifacts: make([]job.Artifact, 1), Place: job.Place{Phases: make([]job.Phase, 1)},
	}))
	for field := range build {
		if !printed["building[]."+field] {
			printed[field] = true
		}
	}
	for field := range printed {
		if !documented[field] {
			t.Errorf("%s is not in the manual", field)
		}
	}
	for field := range documented {
		if !printed[field] {
			t.Errorf("%s is in the manual and not printed", field)
		}
	}
}

// collectFields adds the paths of all fields of a value's JSON, but not those
// whose names are data or told in words.
func collectFields(t *testing.T, paths map[string]bool, prefix string, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil {
		return
	}
	for name, value := range object {
		path := prefix + name
		paths[path] = true
		if name == "vars" || name == "script" || name == "plan" {
			continue
		}
		var list []json.RawMessage
		if json.Unmarshal(value, &list) != nil {
			collectFields(t, paths, path+".", value)
		}
		for _, one := range list {
			collectFields(t, paths, path+"[].", one)
		}
	}
}

// The build that the manual speaks of.
const (
	manualUUID = "3f1c9a"
	manualJob  = "nightly"
)

// runManual runs the examples of the manual and compares what they print.
func runManual(ts *testscript.TestScript, _ bool, _ []string) {
	text, err := os.ReadFile(manualFile)
	ts.Check(err)
	commands := 0
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		for _, example := range regexp.MustCompile(`(?m)^\$ `).Split(block[1], -1)[1:] {
			commands++
			runExample(ts, example)
		}
	}
	if commands < 20 {
		ts.Fatalf("the manual has %d examples only", commands)
	}
}

// runExample runs one line, and compares what it prints with the lines that
// follow it, in which "..." stands for anything.
func runExample(ts *testscript.TestScript, example string) {
	if strings.Contains(example, manualUUID) {
		example = strings.ReplaceAll(example, manualUUID, newestBuild(ts, manualJob)[:len(manualUUID)])
	}
	line, want, _ := strings.Cut(example, "\n")
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "TZ=UTC", "BUILDER_REMOTE="+ts.Getenv("BUILDER_REMOTE"))
	out, err := cmd.CombinedOutput()
	got := string(out)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got += fmt.Sprintf("(exit status %d)\n", exit.ExitCode())
	} else {
		ts.Check(err)
	}
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, `.*`)
	if !regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(got) {
		ts.Fatalf("%s\nprinted\n%swant\n%s", line, got, want)
	}
}

func newestBuild(ts *testscript.TestScript, name string) string {
	out, err := clientCommand(ts, []string{"builds", name, "--limit", "1", "--json"}).Output()
	ts.Check(err)
	var builds []struct{ UUID string }
	ts.Check(json.Unmarshal(out, &builds))
	if len(builds) == 0 {
		ts.Fatalf("job %s has no build", name)
	}
	return builds[0].UUID
}
