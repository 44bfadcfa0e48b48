package main_test

import (
	"strings"
	"testing"

	cli "builder/cmd/builder-client"

	"github.com/google/go-cmp/cmp"
)

// export is a switch as orb exports it.
const export = `opam-version: "2.0"
compiler: []
roots: ["hello.dev"]
installed: [
  "base-threads.base" "conf.1"
  "hello.dev"
  "ocaml.4.14.0" # the compiler
]
package "conf" {
  opam-version: "2.0"
  synopsis: "Says \"installed: [\" {"
  build: [
    ["pkgconf" "{gmp}"] {os != "macos" & conf:enable}
  ]
  available: os = "linux"
  url {
    src: "https://example.org/conf.tgz"
    checksum: ["sha256=01" "sha512=02"]
  }
}
package "hello" {
  description: """
build: [ "none"
"""
  x-mirage-configure: ["mirage"]
  x-opam-monorepo-duniverse-dirs: [
    ["https://example.org/fmt.tbz" "fmt" ["sha256=aa" "sha512=bb"]]
    ["git+https://example.org/git.git#1234" "git"]
  ]
}
`

func TestCompareSwitches(t *testing.T) {
	for name, test := range map[string]struct {
		old, replaced string // in the export, which makes the second one
		want          []string
	}{
		"the same":            {"", "", nil},
		"a version":           {"ocaml.4.14.0", "ocaml.5.2.0", []string{`changed ocaml: "4.14.0" "5.2.0"`}},
		"one less":            {`"conf.1"`, "", []string{`removed conf: "1" ""`}},
		"one more":            {`"conf.1"`, `"conf.1" "a.2~x"`, []string{`added a: "" "2~x"`}},
		"without a version":   {`"conf.1"`, `"conf.1" "odd"`, []string{`added odd: "" ""`}},
		"one alone":           {"[\n  \"base-threads.base\" \"conf.1\"\n  \"hello.dev\"\n  \"ocaml.4.14.0\" # the compiler\n]", `"hello.dev"`, []string{`removed base-threads: "base" ""`, `removed conf: "1" ""`, `removed ocaml: "4.14.0" ""`}},
		"a command":           {`"{gmp}"`, `"{mpir}"`, []string{`changed conf:build: "[ [ \"pkgconf\" \"{gmp}\" ] { os != \"macos\" & conf : enable } ]" "[ [ \"pkgconf\" \"{mpir}\" ] { os != \"macos\" & conf : enable } ]"`}},
		"a field more":        {`  available:`, "  install: [\"true\"]\n  available:", []string{`added conf:install: "" "[ \"true\" ]"`}},
		"other source":        {"sha256=01", "sha256=03", []string{`changed conf:url: "{ src : \"https://example.org/conf.tgz\" checksum : [ \"sha256=01\" \"sha512=02\" ] }" "{ src : \"https://example.org/conf.tgz\" checksum : [ \"sha256=03\" \"sha512=02\" ] }"`}},
		"of no effect":        {"Says", "Tells", nil},
		"written otherwise":   {`  available: os = "linux"`, "  available:\n    os =\n      \"linux\"", nil},
		"other version, too":  {`"conf.1"`, `"conf.2"`, []string{`changed conf: "1" "2"`}},
		"an extension":        {`"mirage"`, `"another"`, nil},
		"taken along":         {"sha256=aa", "sha256=cc", []string{`changed hello:fmt: "sha256=aa sha512=bb" "sha256=cc sha512=bb"`}},
		"from somewhere else": {"example.org/fmt", "example.net/fmt", nil},
		"another commit":      {"#1234", "#4321", []string{`changed hello:git: "git+https://example.org/git.git#1234" "git+https://example.org/git.git#4321"`}},
		"taken along no more": {`["git+https://example.org/git.git#1234" "git"]`, "", []string{`removed hello:git: "git+https://example.org/git.git#1234" ""`}},
		"two things":          {`"hello.dev"` + "\n  \"ocaml", `"hello.1"` + "\n  \"ocamlx", []string{`changed hello: "dev" "1"`, `removed ocaml: "4.14.0" ""`, `added ocamlx: "" "4.14.0"`}},
	} {
		t.Run(name, func(t *testing.T) {
			other := strings.Replace(export, test.old, test.replaced, 1)
			if other == export && test.old != "" && test.want != nil {
				t.Fatal("nothing was replaced")
			}
			if d := cmp.Diff(test.want, cli.CompareSwitches(export, other)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestBrokenSwitches: a text that breaks off anywhere, or lacks any octet, is like
// itself, and does no harm.
func TestBrokenSwitches(t *testing.T) {
	for i := range export {
		for _, text := range []string{export[:i], export[:i] + export[i+1:]} {
			if found := cli.CompareSwitches(text, text); found != nil {
				t.Errorf("%q differs from itself: %v", text, found)
			}
			cli.CompareSwitches(export, text)
		}
	}
}
