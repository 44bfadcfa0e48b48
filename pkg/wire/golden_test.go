package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"
)

const goldenDir = "testdata/golden"

// goldenCount is the number of vectors: none is left out.
const goldenCount = 277

// vector is one file of testdata/golden; its README tells what the fields mean.
type vector struct {
	Name        string
	Type        string
	Expect      string
	Constructor string
	Encode      bool
	Value       json.RawMessage
	DecodesTo   json.RawMessage `json:"decodes_to"`
	Reencode    string          `json:"reencode_hex"`
	FrameHeader string          `json:"frame_header_hex"`

	der []byte
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.der, err = os.ReadFile(strings.TrimSuffix(name, ".json") + ".der"); err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// The vectors in which we differ, and why (docs/protocol.md, "Deviations").
var (
	// A bad path costs the file, not the build: the message is taken and
	// job.CheckPath refuses the path.
	badPaths = []string{"odd_path_empty", "odd_path_nul"}
	// The reference merges slashes when it reads. We keep the octets;
	// job.CheckPath refuses them.
	keptSlashes = []string{"odd_path_double_slash"}
	// Go's times have nanoseconds. Of one picosecond nothing is left, so that no
	// fraction is written where the reference writes ".000".
	picoseconds = []string{"reschedule_time_frac_1ps"}
)

func TestGolden(t *testing.T) {
	vectors := readVectors(t)
	if len(vectors) != goldenCount {
		t.Errorf("%d vectors, want %d", len(vectors), goldenCount)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			switch {
			case slices.Contains(badPaths, v.Name):
				testBadPath(t, v)
			case slices.Contains(keptSlashes, v.Name):
				testKeptSlashes(t, v)
			case v.Expect == "ok":
				testGood(t, v)
			case v.Expect == "error", v.Expect == "exception":
				testBad(t, v)
			default:
				t.Fatalf("unknown expectation %q", v.Expect)
			}
		})
	}
}

func testGood(t *testing.T, v vector) {
	value := parseValue(t, v, v.Value)
	if v.Encode {
		want := v.der
		if slices.Contains(picoseconds, v.Name) {
			want = bytes.Replace(want, []byte("\x18\x1320260304050607.000Z"), []byte("\x18\x0f20260304050607Z"), 1)
			want[1], want[3] = want[1]-4, want[3]-4 // of the two elements around it
		}
		if got := encodeValue(t, value); !bytes.Equal(got, want) {
			t.Errorf("encoded\n%x, want\n%x", got, want)
		}
	}
	want := value
	if v.DecodesTo != nil {
		want = parseValue(t, v, v.DecodesTo)
	}
	got, err := decodeValue(v)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	again := v.der
	if v.Reencode != "" {
		again = unhex(t, v.Reencode)
	}
	if re := encodeValue(t, got); !bytes.Equal(re, again) {
		t.Errorf("encoded again\n%x, want\n%x", re, again)
	}
	if v.Type == "cmd" {
		testFrame(t, v, got)
	}
}

// testFrame checks that m, which encodes to itself, leaves in a frame, in one
// write, and arrives from one.
func testFrame(t *testing.T, v vector, m any) {
	frame := append(unhex(t, v.FrameHeader), v.der...)
	received, err := receiveAll(newScript(frame), allKinds()...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diff([]any{m}, received); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	if v.Reencode != "" {
		return
	}
	peer := newScript(nil)
	if err := wire.NewConn(peer, nil).Send(m.(wire.Message)); err != nil {
		t.Fatal(err)
	}
	if diff := diff([][]byte{frame}, peer.writes); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func testBad(t *testing.T, v vector) {
	if got, err := decodeValue(v); err == nil {
		t.Errorf("decoded %+v, want an error", got)
	}
	if v.Type != "cmd" {
		return
	}
	frame := append(unhex(t, v.FrameHeader), v.der...)
	if got, err := receiveAll(newScript(frame), allKinds()...); err == nil {
		t.Errorf("received %+v, want an error", got)
	}
}

func testBadPath(t *testing.T, v vector) {
	got, err := decodeValue(v)
	if err != nil {
		t.Fatal(err)
	}
	files := got.(wire.JobFinished).Files
	if len(files) != 1 {
		t.Fatalf("%d files, want 1", len(files))
	}
	if err := job.CheckPath(files[0].Path); err == nil {
		t.Errorf("path %q is allowed", files[0].Path)
	}
}

func testKeptSlashes(t *testing.T, v vector) {
	got, err := decodeValue(v)
	if err != nil {
		t.Fatal(err)
	}
	want := parseValue(t, v, v.Value).(wire.JobFinished)
	if want.Files[0].Path != "a/b/c" {
		t.Fatalf("the reference reads %q", want.Files[0].Path)
	}
	want.Files[0].Path = "a//b///c"
	if diff := diff(any(want), got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if err := job.CheckPath("a//b///c"); err == nil {
		t.Error("path a//b///c is allowed")
	}
	if re := encodeValue(t, got); !bytes.Equal(re, v.der) {
		t.Errorf("encoded again\n%x, want\n%x", re, v.der)
	}
}

// execFile is a whole result file in memory.
type execFile struct {
	wire.Exec
	Console []job.Line
	Files   []wire.File
}

// decodeValue reads a vector: a wire.Message, a []wire.StateItem or an execFile.
func decodeValue(v vector) (any, error) {
	switch v.Type {
	case "cmd":
		if len(v.der) > 0 && v.der[0] == 0xa0|byte(wire.KindJobFinished) {
			return decodeFinished(v.der)
		}
		m, err := wire.Decode(v.der)
		return m, err
	case "state":
		return decodeState(v.der)
	case "exec":
		return decodeExec(v.der)
	}
	return nil, errors.New("unknown type " + v.Type)
}

func encodeValue(t testing.TB, value any) []byte {
	t.Helper()
	switch value := value.(type) {
	case wire.Message:
		return encoded(t, wire.Encode(value))
	case []wire.StateItem:
		return encoded(t, wire.EncodeState(value))
	case execFile:
		return encoded(t, encodeExec(value))
	}
	t.Fatalf("can not encode %T", value)
	return nil
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
