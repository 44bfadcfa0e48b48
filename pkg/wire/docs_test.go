package wire_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

const docsDir = "../../docs/"

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(docsDir + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentedKinds holds the table of kinds in docs/protocol.md to the code.
func TestDocumentedKinds(t *testing.T) {
	var want, got []string
	for _, kind := range allKinds() {
		name, _, _ := strings.Cut(kind.String(), " [")
		want = append(want, fmt.Sprintf("%d, %s, %s", int(kind), name, humanLimit(kind.Limit())))
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]+) \| [^|]+ \| ([^|]+) \|$`)
	for _, m := range row.FindAllStringSubmatch(readDoc(t, "protocol.md"), -1) {
		got = append(got, strings.Join(m[1:], ", "))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/protocol.md (-code +table):\n%s", d)
	}
}

// humanLimit is a limit as the table writes it.
func humanLimit(n int64) string {
	switch {
	case n >= 1<<60:
		return "streamed"
	case n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d octets", n)
}

// TestDocumentedModule holds the alternatives of Cmd in docs/builder.asn1 to the
// code.
func TestDocumentedModule(t *testing.T) {
	_, text, _ := strings.Cut(readDoc(t, "builder.asn1"), "Cmd ::= CHOICE {\n")
	text, _, ok := strings.Cut(text, "\n}\n")
	if !ok {
		t.Fatal("no Cmd in docs/builder.asn1")
	}
	var want, got []string
	for _, kind := range allKinds() {
		want = append(want, fmt.Sprint(int(kind)))
	}
	for _, m := range regexp.MustCompile(`(?m)^  \w+ +\[(\d+)\] `).FindAllStringSubmatch(text, -1) {
		got = append(got, m[1])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/builder.asn1 (-code +module):\n%s", d)
	}
}

// TestDocumentedNumbers holds what docs/protocol.md says in its prose.
func TestDocumentedNumbers(t *testing.T) {
	text := readDoc(t, "protocol.md")
	for _, said := range []string{
		fmt.Sprintf("port %d by default", wire.DefaultPort),
		fmt.Sprintf("A script has at most %d MiB", wire.MaxScript>>20),
		fmt.Sprintf("A line over %d KiB is split", job.MaxLine>>10),
		fmt.Sprintf("Version %d is ours", wire.OwnVersion),
		fmt.Sprintf("| client, %d |", wire.ClientVersion),
		fmt.Sprintf("| worker, %d |", wire.WorkerVersion),
	} {
		if !strings.Contains(text, said) {
			t.Errorf("docs/protocol.md does not say %q", said)
		}
	}
	for _, capability := range []string{
		wire.CapDefine, wire.CapStatus, wire.CapWatch, wire.CapBuilds, wire.CapCancel, wire.CapBuild, wire.CapLimits,
		wire.CapResume, wire.CapAlive, wire.CapFetch, wire.CapOutbox, wire.CapRetention, wire.CapStore, wire.CapDismissed,
	} {
		if !strings.Contains(text, "| `"+capability+"` |") {
			t.Errorf("docs/protocol.md misses the capability %q", capability)
		}
	}
}
