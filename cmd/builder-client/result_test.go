package main_test

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/rogpeppe/go-internal/testscript"
)

// makeResult writes a result file: result FILE [PATH...], or with --lines N
// first, one of that many console lines. Each path is an artifact's, in Go's
// quotes if need be, and its content.
func makeResult(ts *testscript.TestScript, _ bool, args []string) {
	lines := []string{"first", "se\x1bcond\xff", ""}
	if len(args) > 1 && args[0] == "--lines" {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		lines = nil
		for i := range n {
			lines = append(lines, "line "+strconv.Itoa(i))
		}
		args = args[2:]
	}
	if len(args) == 0 {
		ts.Fatalf("usage: result [--lines N] FILE [PATH...]")
	}
	var console []byte
	for i := len(lines) - 1; i >= 0; i-- {
		console = wire.AppendConsoleLine(console, time.Duration(i)*time.Second, []byte(lines[i]))
	}
	var files []wire.File
	for _, path := range args[1:] {
		if unquoted, err := strconv.Unquote(path); err == nil {
			path = unquoted
		}
		files = append(files, wire.File{Path: path, Data: wire.Blob{Data: []byte(path + "\n")}})
	}
	started := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
	e := wire.EncodeExec(wire.Exec{
		Job:     wire.ScriptJob{Name: "odd\x1b[2Jname", Platform: "p", Script: wire.Blob{Data: []byte("echo hello\n")}},
		UUID:    [16]byte{0x3f, 0x1c, 0x9a},
		Started: started, Finished: started.Add(90 * time.Minute), Result: job.Result{Kind: job.Exited, Code: 7},
	}, wire.Console{Size: int64(len(console)), Write: func(w io.Writer) error {
		_, err := w.Write(console)
		return err
	}}, files)
	var b bytes.Buffer
	_, err := e.WriteTo(&b)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o644))
}
