package template_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"builder/pkg/template"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "B_2": "it's $HOME", "NEXT": "%%A%%", "PLATFORM": "freebsd"}
	for name, c := range map[string]struct{ text, want string }{
		"as it is":                    {"x %%B_2%% y", "x it's $HOME y"},
		"quoted":                      {"x %%'B_2'%% y", `x 'it'\''s $HOME' y`},
		"one after the other":         {"%%A%%%%A%%", "11"},
		"at both ends":                {"%%A%% and %%PLATFORM%%", "1 and freebsd"},
		"values are not expanded":     {"%%NEXT%%%%'NEXT'%%", "%%A%%'%%A%%'"},
		"values do not join the text": {"%%%NEXT%%%", "%%%A%%%"},
		"from left to right":          {"%%A%%B_2%%", "1B_2%%"},
		"a percent in front":          {"%%%A%%", "%1"},
		"a percent behind":            {"%%A%%%", "1%"},
		"no form: format of date":     {"date +%%H:%%M", "date +%%H:%%M"},
		"no form: alone":              {"100 %% of it", "100 %% of it"},
		"no form: empty":              {"%%%%", "%%%%"},
		"no form: small letters":      {"%%a%% %%Platform%%", "%%a%% %%Platform%%"},
		"no form: begins with digit":  {"%%2B%% %%_A%%", "%%2B%% %%_A%%"},
		"no form: half quoted":        {"%%'A%% %%A'%%", "%%'A%% %%A'%%"},
		"no form: blanks":             {"%% A %%", "%% A %%"},
		"no form: empty quotes":       {"%%''%%", "%%''%%"},
		"no form: over a line":        {"%%A\n%%", "%%A\n%%"},
		"no form: one percent":        {"%A%", "%A%"},
		"nothing":                     {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			given := map[string]string{"PLATFORM": "freebsd"}
			for _, used := range template.Variables(c.text) {
				given[used] = vars[used]
			}
			got, err := template.Expand(c.text, given)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What robur's builder does: all of one, then all of the other.
func TestExpandAsTheReference(t *testing.T) {
	text := "#!/bin/sh\n\nset -ex\n\nfetch 'https://example.org/orb?platform=%%PLATFORM%%'\n" +
		"date +%%H\nrepos=\"default:https://example.org\"\norb build --repos=$repos %%OPAM_PACKAGE%%\n"
	want := strings.ReplaceAll(strings.ReplaceAll(text, "%%OPAM_PACKAGE%%", "mirage-hello"), "%%PLATFORM%%", "freebsd-14")
	got, err := template.Expand(text, map[string]string{"OPAM_PACKAGE": "mirage-hello", "PLATFORM": "freebsd-14"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVariables(t *testing.T) {
	got := template.Variables("%%Z%% %%'A'%% %%Z%% %%'Z'%% %%no%% %%M_1%%")
	if diff := cmp.Diff([]string{"A", "M_1", "Z"}, got); diff != "" {
		t.Error(diff)
	}
	if got := template.Variables("none"); len(got) != 0 {
		t.Errorf("variables of a text without: %v", got)
	}
}

func TestExpandListsAllThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		vars map[string]string
		want template.VariableError
	}{
		"missing":            {"%%B%% %%A%% %%'C'%%", map[string]string{"A": ""}, template.VariableError{Missing: []string{"B", "C"}}},
		"missing platform":   {"%%PLATFORM%%", nil, template.VariableError{Missing: []string{"PLATFORM"}}},
		"unknown":            {"%%A%%", map[string]string{"A": "", "Z": "", "b": ""}, template.VariableError{Unknown: []string{"Z", "b"}}},
		"unknown to nothing": {"", map[string]string{"A": "", "PLATFORM": ""}, template.VariableError{Unknown: []string{"A"}}},
		"both":               {"%%A%%", map[string]string{"B": ""}, template.VariableError{Missing: []string{"A"}, Unknown: []string{"B"}}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := template.Template{Name: "go-build", File: "/etc/go-build.template", Text: c.text}.Expand(c.vars)
			var got *template.VariableError
			if !errors.As(err, &got) {
				t.Fatalf("got %q, error %v", text, err)
			}
			if diff := cmp.Diff(c.want, *got); diff != "" {
				t.Error(diff)
			}
			for _, part := range append(append([]string{"go-build"}, c.want.Missing...), c.want.Unknown...) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %s", err, part)
				}
			}
		})
	}
}

func TestValueWithNUL(t *testing.T) {
	if text, err := template.Expand("%%A%%", map[string]string{"A": "x\x00y"}); err == nil || !strings.Contains(err.Error(), "A") {
		t.Errorf("got %q, %v", text, err)
	}
}

// A real shell reads back what Quote wrote: every octet but NUL.
func TestShellReadsQuoted(t *testing.T) {
	octets := make([]byte, 0, 255)
	for c := 1; c < 256; c++ {
		octets = append(octets, byte(c))
	}
	for name, value := range map[string]string{
		"every octet": string(octets), "empty": "", "quotes": `'"'\''`, "newlines": "a\n\nb\n",
		"expansions": "$HOME `id` $(id) ${x} * ~ \\ !!", "option": "-n",
	} {
		t.Run(name, func(t *testing.T) {
			script, err := template.Expand("printf %s %%'VALUE'%%", map[string]string{"VALUE": value})
			if err != nil {
				t.Fatal(err)
			}
			got, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", script).Output()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzExpand compares Expand with one that looks at the text octet by octet.
func FuzzExpand(f *testing.F) {
	f.Add("a %%A%% b %%'B'%% %%%%A%%B%%", "v")
	f.Add("date +%%H", "%%A%%")
	f.Add("%%%'A'%%%", "it's")
	f.Fuzz(func(t *testing.T, text, value string) {
		vars := map[string]string{}
		for _, name := range template.Variables(text) {
			vars[name] = value
		}
		got, err := template.Expand(text, vars)
		if strings.Contains(value, "\x00") && len(vars) > 0 {
			if err == nil {
				t.Fatal("a NUL was taken")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := naive(text, value); got != want {
			t.Fatalf("expanding %q: got %q, want %q", text, got, want)
		}
	})
}

func naive(text, value string) string {
	if text == "" {
		return ""
	}
	rest, opened := strings.CutPrefix(text, "%%")
	name, rest, closed := strings.Cut(rest, "%%")
	if !opened || !closed {
		return text[:1] + naive(text[1:], value)
	}
	quoted := len(name) > 2 && name[0] == '\'' && name[len(name)-1] == '\''
	if quoted {
		name = name[1 : len(name)-1]
	}
	if name == "" || name[0] < 'A' || name[0] > 'Z' || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return text[:1] + naive(text[1:], value)
	}
	if quoted {
		return "'" + strings.Join(strings.Split(value, "'"), `'\''`) + "'" + naive(rest, value)
	}
	return value + naive(rest, value)
}
