package template_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"builder/pkg/template"
)

// shippedDir holds the templates that are installed with the server.
const shippedDir = "../../templates"

// shipped loads them all, by file name.
func shipped(t *testing.T) map[string]template.Template {
	t.Helper()
	entries, err := os.ReadDir(shippedDir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]template.Template{}
	for _, entry := range entries {
		name, platform, ok := strings.Cut(entry.Name(), ".template")
		if !ok {
			t.Errorf("%s is not a template", entry.Name())
			continue
		}
		if platform = strings.TrimPrefix(platform, "."); platform == "" {
			platform = "any"
		}
		loaded, err := template.Dir(shippedDir).Load(name, platform)
		if err != nil {
			t.Fatal(err)
		}
		all[entry.Name()] = loaded
	}
	return all
}

func TestShippedAreAllThere(t *testing.T) {
	var got []string
	for name := range shipped(t) {
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{
		"command.template", "debian-package.template", "freebsd-port.template", "go-build.template",
		"orb-build.template.debian", "orb-build.template.freebsd", "orb-build.template.ubuntu",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

var documented = regexp.MustCompile(`(?m)^#(?: Variables:|           ) ([A-Z][A-Z0-9_]*)  +\S`)

// The comment at the start says which variables there are, and those there are.
func TestShippedVariablesAreDocumented(t *testing.T) {
	for file, tmpl := range shipped(t) {
		t.Run(file, func(t *testing.T) {
			head, body, ok := strings.Cut(tmpl.Text, "\nset -eu")
			if !ok || !strings.HasPrefix(head, "#!/bin/sh\n# "+tmpl.Name) {
				t.Fatal("it does not begin with #!/bin/sh, a comment on what it is, and set -eu")
			}
			for _, part := range []string{"# Variables: ", "# Needs: ", "# Leaves: "} {
				if !strings.Contains(head, "\n"+part) {
					t.Errorf("the comment has no %q", part)
				}
			}
			if used := template.Variables(head); len(used) > 0 {
				t.Errorf("values of %v would get into the comment", used)
			}
			var want []string
			for _, match := range documented.FindAllStringSubmatch(head, -1) {
				want = append(want, match[1])
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, template.Variables(body)); diff != "" {
				t.Errorf("documented and used: %s", diff)
			}
		})
	}
}

// hostile is a value for every variable that must stay a value.
const hostile = "it's $(exit 1) `exit 1` \"; exit 1\n#\\"

func expanded(t *testing.T, tmpl template.Template, value func(name string) string) string {
	t.Helper()
	vars := map[string]string{}
	for _, name := range tmpl.Variables() {
		vars[name] = value(name)
	}
	text, err := tmpl.Expand(vars)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestShippedParse(t *testing.T) {
	shellcheck, checkErr := exec.LookPath("shellcheck")
	for file, tmpl := range shipped(t) {
		t.Run(file, func(t *testing.T) {
			text := expanded(t, tmpl, func(name string) string {
				if name == "COMMAND" {
					return "make all; make test" // the one that is meant to be shell text
				}
				return hostile
			})
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "/bin/sh", "-n", script).CombinedOutput(); err != nil {
				t.Errorf("sh -n: %v\n%s", err, out)
			}
			if checkErr != nil {
				t.Skip("shellcheck is not installed: only sh -n was run")
			}
			out, err := exec.CommandContext(t.Context(), shellcheck, "-s", "sh", filepath.Join(shippedDir, file)).CombinedOutput()
			if err != nil {
				t.Errorf("shellcheck: %v\n%s", err, out)
			}
		})
	}
}

// run executes a shipped template in a fresh directory, as a worker does, and
// returns that directory, what it printed, and its error.
func run(t *testing.T, name, platform string, vars map[string]string, env ...string) (dir, console string, err error) {
	t.Helper()
	tmpl, err := template.Dir(shippedDir).Load(name, platform)
	if err != nil {
		t.Fatal(err)
	}
	text, err := tmpl.Expand(vars)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", script)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	return dir, string(out), err
}

// sums returns the SHA-256 of every file under dir, by its path.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		all[name] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCommand(t *testing.T) {
	dir, console, err := run(t, "command", "any", map[string]string{"COMMAND": "echo hello | tee out\ntest -s out && echo 'it''s there'"})
	if err != nil || console != "hello\nits there\n" {
		t.Errorf("printed %q, %v", console, err)
	}
	if got := sums(t, dir); len(got) != 1 || got["out"] == "" {
		t.Errorf("left %v", got)
	}
	_, console, err = run(t, "command", "any", map[string]string{"COMMAND": "false\necho not reached"})
	if err == nil || console != "" {
		t.Errorf("after a command that failed: printed %q, %v", console, err)
	}
}

// repository makes a git repository with two branches and a tag, whose path has
// what a shell would stumble over, and returns the path and the first commit.
func repository(t *testing.T) (path, first string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "it's a $repo")
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = path
		cmd.Env = append(os.Environ(), gitEnv...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commit := func(message string) {
		t.Helper()
		for name, text := range map[string]string{
			"go.mod":            "module example.org/hello\n\ngo 1.21\n",
			"cmd/hello/main.go": fmt.Sprintf("package main\n\nfunc main() { println(%q) }\n", message),
			"cmd/other/main.go": "package main\n\nfunc main() {}\n",
			"lib/lib.go":        "package lib\n",
		} {
			file := filepath.Join(path, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git("add", ".")
		git("commit", "--quiet", "--message", message)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "--quiet", "--initial-branch=main")
	commit("first")
	git("tag", "v1")
	first = git("rev-parse", "HEAD")
	git("checkout", "--quiet", "-b", "feature")
	commit("feature")
	git("checkout", "--quiet", "main")
	commit("main")
	return path, first
}

var gitEnv = []string{
	"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
	"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=2024-01-02T03:04:05Z",
	"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_COMMITTER_DATE=2024-01-02T03:04:05Z",
}

func TestGoBuild(t *testing.T) {
	for _, tool := range []string{"git", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	repo, first := repository(t)
	build := func(t *testing.T, ref, pkg string) (dir, console string, err error) {
		t.Helper()
		env := append([]string{"GOCACHE=" + strings.TrimSpace(string(cache)), "GOPROXY=off", "GOTOOLCHAIN=local"}, gitEnv...)
		return run(t, "go-build", "any", map[string]string{"REPO": repo, "REF": ref, "PACKAGE": pkg}, env...)
	}
	for ref, want := range map[string]string{
		"HEAD": "main\n", "main": "main\n", "feature": "feature\n", "v1": "first\n", first: "first\n", first[:12]: "first\n",
	} {
		t.Run("ref "+ref, func(t *testing.T) {
			dir, console, err := build(t, ref, "./cmd/hello")
			if err != nil {
				t.Fatalf("%v\n%s", err, console)
			}
			out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "bin/hello")).CombinedOutput()
			if err != nil || string(out) != want {
				t.Errorf("the program printed %q, %v, want %q", out, err, want)
			}
		})
	}
	t.Run("twice the same", func(t *testing.T) {
		var all []map[string]string
		for range 2 {
			dir, console, err := build(t, "main", "./cmd/...")
			if err != nil {
				t.Fatalf("%v\n%s", err, console)
			}
			all = append(all, sums(t, dir))
		}
		if diff := cmp.Diff(all[0], all[1]); diff != "" || len(all[0]) != 2 {
			t.Errorf("left %v; difference: %s", all[0], diff)
		}
	})
	for name, c := range map[string]struct{ ref, pkg, message string }{
		"no such ref":     {"it's missing", "./cmd/hello", "there is no branch, tag or commit it's missing"},
		"an option":       {"--all", "./cmd/hello", "there is no branch, tag or commit --all"},
		"no such package": {"HEAD", "./cmd/missing", "missing"},
		"no main package": {"HEAD", "./lib", "no main packages"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, console, err := build(t, c.ref, c.pkg)
			if err == nil || !strings.Contains(console, c.message) {
				t.Errorf("error %v, printed:\n%s", err, console)
			}
			if left := sums(t, dir); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// The orb templates with a stand-in for orb that writes down how it was called.
func TestOrbBuild(t *testing.T) {
	tools := t.TempDir()
	standIn := "#!/bin/sh\nfor arg; do echo \"$arg\"; done >arguments\nmkdir bin\nfor f in bin/hello opam-switch build-environment system-packages; do : >$f; done\n"
	if err := os.WriteFile(filepath.Join(tools, "orb"), []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	const repositories = "--repos=default:https://opam.ocaml.org,unikernels:https://git.robur.coop/robur/unikernel-repo.git"
	freebsd := []string{
		"build", "--solver-timeout=600", "--switch-name=/tmp/myswitch", "--date=1589138087", "--out=.", repositories,
		"mirage-hello", "it's", "$(exit", "1)", "*",
	}
	linux := slices.Insert(slices.Clone(freebsd), 1, "--disable-sandboxing")
	for platform, want := range map[string][]string{"freebsd": freebsd, "debian": linux, "ubuntu": linux} {
		t.Run(platform, func(t *testing.T) {
			vars := map[string]string{"OPAM_PACKAGE": "mirage-hello it's $(exit 1) *", "PLATFORM": platform}
			dir, console, err := run(t, "orb-build", platform, vars, "PATH="+tools+":"+os.Getenv("PATH"))
			if err != nil {
				t.Fatalf("%v\n%s", err, console)
			}
			arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, strings.Fields(string(arguments))); diff != "" {
				t.Error(diff)
			}
			left := sums(t, dir)
			delete(left, "arguments")
			if _, ok := left["bin/hello"]; len(left) != 4 || !ok {
				t.Errorf("left %v", left)
			}
		})
	}
}
