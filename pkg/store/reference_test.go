package store_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

// vectors are results as the reference wrote them, of one job and uuid each.
var vectors = []string{
	"exec_artifact_70000", "exec_console", "exec_minimal", "exec_msg_timeout", "exec_negative_delta",
	"exec_signalled", "exec_times_min_max", "old_exec_mixed_times",
}

// takeOver lays the vectors out as the reference does; the n-th is number(n).
func takeOver(t *testing.T, dir string) {
	t.Helper()
	for n, name := range vectors {
		data, err := os.ReadFile(filepath.Join("testdata", name+".der"))
		if err != nil {
			t.Fatal(err)
		}
		writeResult(t, filepath.Join(dir, "hello", number(n).String()), data)
	}
}

func writeResult(t *testing.T, dir string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "full"), data, 0o444); err != nil {
		t.Fatal(err)
	}
}

func TestTakeOver(t *testing.T) {
	dir := scratch(t)
	takeOver(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "state"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "spool", "a uuid it is not"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, disk.OS{}, dir)
	for range 2 {
		list, err := s.List("", 0)
		if err != nil || len(list) != len(vectors) {
			t.Fatalf("%d builds are listed, want %d: %v", len(list), len(vectors), err)
		}
		for _, b := range list {
			if b.Result.Cause != "" { // the reference knows none, damage has one
				t.Errorf("build %v of %q: %v", b.UUID, b.Job, b.Result)
			}
		}
		for n, name := range vectors {
			want, err := os.ReadFile(filepath.Join("testdata", name+".der"))
			if err != nil {
				t.Fatal(err)
			}
			if got := export(t, s, number(n)); !bytes.Equal(got, want) {
				t.Errorf("export of %s differs", name)
			}
		}
		s = reopen(t, s, dir)
	}
}

func TestResult(t *testing.T) {
	dir := scratch(t)
	takeOver(t, dir)
	s := open(t, disk.OS{}, dir)
	got, err := s.Build(number(1)) // exec_console
	want := job.Build{
		UUID: number(1), Try: 1, Job: "hello", Platform: "debian-12",
		Script:   job.ContentOf([]byte("#!/bin/sh\nset -e\necho hello\n")),
		Started:  time.Date(2026, 11, 21, 20, 27, 26, 724e6, time.UTC),
		Finished: time.Date(2026, 11, 21, 20, 27, 26, 811e6, time.UTC),
		Result:   job.Result{Kind: job.Exited, Code: 3},
		Artifacts: []job.Artifact{
			{Path: "empty", Content: job.ContentOf(nil)},
			{Path: "bin/out.bin", Content: job.ContentOf([]byte("ELF\xff\x00\x01"))},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	wantLines := []job.Line{
		{Delta: 0, Data: []byte("\xff\xfe")},
		{Delta: 1, Data: []byte{}},
		{Delta: 53574055, Data: []byte("second ☃")},
		{Delta: 55013351, Data: []byte("third")},
	}
	for from := range len(wantLines) + 1 {
		lines, err := linesOf(s, number(1), int64(from))
		if diff := cmp.Diff(wantLines[from:], lines); len(lines)+from != len(wantLines) || from < len(wantLines) && diff != "" || err != nil {
			t.Errorf("lines from %d: %v (-want +got):\n%s", from, err, diff)
		}
	}
	in, size, err := s.OpenArtifact(number(1), "bin/out.bin")
	if data, err := read(in, err); data != "ELF\xff\x00\x01" || size != 6 || err != nil {
		t.Errorf("artifact %q, %v", data, err)
	}
	if _, _, err := s.OpenArtifact(number(1), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an artifact that is not there: %v", err)
	}
	ancient, err := s.Build(number(6)) // exec_times_min_max
	if err != nil || ancient.Started.Year() != 0 || ancient.Finished.Year() != 9999 {
		t.Errorf("times %v, %v: %v", ancient.Started, ancient.Finished, err)
	}
}

// TestLongResult replays lines that are longer than ours may be.
func TestLongResult(t *testing.T) {
	dir := scratch(t)
	var printed, want []string
	for i, length := range []int{70_000, 3, job.MaxLine, 0, 2*job.MaxLine + 1} {
		line := strings.Repeat(string(rune('a'+i)), length)
		printed = append(printed, line)
		for len(line) > job.MaxLine {
			want = append(want, line[:job.MaxLine]+"+")
			line = line[job.MaxLine:]
		}
		want = append(want, line)
	}
	for i := range 3000 {
		line := strings.Repeat("x", i%300)
		printed, want = append(printed, line), append(want, line)
	}
	var encoded []byte
	for _, line := range slices.Backward(printed) {
		encoded = wire.AppendConsoleLine(encoded, time.Second, []byte(line))
	}
	var full bytes.Buffer
	e := wire.EncodeExec(wire.Exec{Job: wire.ScriptJob{Name: "long"}, Started: began, Finished: began},
		wire.Console{Size: int64(len(encoded)), Write: func(w io.Writer) error {
			_, err := w.Write(encoded)
			return err
		}}, nil)
	if _, err := e.WriteTo(&full); err != nil {
		t.Fatal(err)
	}
	writeResult(t, filepath.Join(dir, "long", number(1).String()), full.Bytes())
	s := open(t, disk.OS{}, dir)
	lines, err := linesOf(s, number(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range lines {
		if line.Flags == job.Unended {
			line.Data = append(line.Data, '+')
		}
		got = append(got, string(line.Data))
	}
	if !slices.Equal(got, want) { // too much for a diff
		t.Errorf("replayed %d lines that differ from the %d printed", len(got), len(want))
	}
}

func TestDamagedResults(t *testing.T) {
	whole, err := os.ReadFile("testdata/exec_console.der")
	if err != nil {
		t.Fatal(err)
	}
	odd, err := os.ReadFile("testdata/odd_exec_choice_1.der")
	if err != nil {
		t.Fatal(err)
	}
	dir := scratch(t)
	damaged := map[string][]byte{"cut": whole[:100], "empty": nil, "odd": odd, "longer": append(bytes.Clone(whole), 0)}
	n := 0
	for name, data := range damaged {
		n++
		writeResult(t, filepath.Join(dir, name, number(n).String()), data)
	}
	writeResult(t, filepath.Join(dir, "hello", number(n+1).String()), whole)
	if err := os.MkdirAll(filepath.Join(dir, "hello", number(n+2).String()), 0o755); err != nil { // no result at all
		t.Fatal(err)
	}
	s := open(t, disk.OS{}, dir)
	list, err := s.List("", 0)
	if err != nil || len(list) != len(damaged)+1 {
		t.Fatalf("%d builds are listed: %v", len(list), err)
	}
	for _, b := range list[1:] {
		if _, ok := damaged[b.Job]; !ok || b.Result.Kind != job.Failed || !strings.Contains(b.Result.Text, "full") {
			t.Errorf("listed as %q, %v", b.Job, b.Result)
		}
		if _, err := s.Build(b.UUID); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), b.Job) {
			t.Errorf("%s: %v", b.Job, err)
		}
	}
	if b, err := s.Latest("", ""); b.UUID != number(n+1) || err != nil {
		t.Errorf("the latest is %v: %v", b.UUID, err)
	}
}
