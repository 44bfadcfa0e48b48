package template_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"builder/pkg/template"
)

// directory makes a config directory with the given files.
func directory(t *testing.T, files map[string]string) template.Dir {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return template.Dir(dir)
}

func TestLoad(t *testing.T) {
	dir := directory(t, map[string]string{
		"orb-build.template":            "generic",
		"orb-build.template.freebsd-14": "own %%A%%",
		"only.template.freebsd-14":      "only",
	})
	for name, c := range map[string]struct{ name, platform, text, file string }{
		"the platform's own": {"orb-build", "freebsd-14", "own %%A%%", "orb-build.template.freebsd-14"},
		"the generic one":    {"orb-build", "debian-12", "generic", "orb-build.template"},
		"only for one":       {"only", "freebsd-14", "only", "only.template.freebsd-14"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := dir.Load(c.name, c.platform)
			if err != nil {
				t.Fatal(err)
			}
			want := template.Template{Name: c.name, File: filepath.Join(string(dir), c.file), Text: c.text}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	_, err := dir.Load("only", "debian-12")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error is %v", err)
	}
	for _, file := range []string{"only.template.debian-12", "only.template"} {
		if !strings.Contains(err.Error(), filepath.Join(string(dir), file)+" ") {
			t.Errorf("%q does not name %s", err, file)
		}
	}
}

func TestLoadRefusesNames(t *testing.T) {
	dir := directory(t, map[string]string{"a.template": "", "b.template.c": ""})
	outside := filepath.Join(string(dir), "config")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", ".", "..", "../a", "/etc/passwd", "a/../a", "-a", ".a", "a b", "a\x00", "a\n", "ä", strings.Repeat("a", 101)} {
		for _, names := range [][2]string{{bad, "ok"}, {"a", bad}} {
			got, err := template.Dir(outside).Load(names[0], names[1])
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "not allowed") {
				t.Errorf("%q: %v, %v", names, got, err)
			}
		}
		if got := dir.Platforms("a", []string{bad}); got != nil {
			t.Errorf("platform %q has a template", bad)
		}
	}
}

func TestLoadRefusesFiles(t *testing.T) {
	dir := directory(t, map[string]string{
		"large.template": strings.Repeat("x", template.MaxSize+1),
		"full.template":  strings.Repeat("x", template.MaxSize),
	})
	if err := os.Mkdir(filepath.Join(string(dir), "directory.template"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(string(dir), "fifo.template"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"large", "directory", "fifo"} {
		if _, err := dir.Load(name, "p"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := dir.Load("full", "p"); err != nil || len(got.Text) != template.MaxSize {
		t.Errorf("full: %d octets, %v", len(got.Text), err)
	}
}

func TestPlatforms(t *testing.T) {
	dir := directory(t, map[string]string{
		"some.template.b": "", "some.template.d": "", "some.template.unknown": "", "all.template": "", "all.template.b": "",
	})
	known := []string{"d", "a", "b", "c"}
	for name, want := range map[string][]string{"some": {"d", "b"}, "all": known, "none": nil, "..": nil} {
		if diff := cmp.Diff(want, dir.Platforms(name, known)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := template.Dir(filepath.Join(string(dir), "missing")).Platforms("all", known); got != nil {
		t.Errorf("a missing directory has templates for %v", got)
	}
}
