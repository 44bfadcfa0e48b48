package main

import (
	"bufio"
	"io"
	"os"
	"slices"
	"time"

	"builder/pkg/wire"
)

// extent is where a line lies in a result file.
type extent struct{ offset, size int64 }

// printConsole prints the console of a result file, oldest line first. The file
// has the newest first: its lines are found in one pass and printed in another,
// with 16 octets of memory for each.
func printConsole(out io.Writer, file *os.File, size int64) error {
	lines, err := findLines(file, size)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 64<<10)
	for _, line := range slices.Backward(lines) {
		if _, err := io.Copy(w, io.NewSectionReader(file, line.offset, line.size)); err != nil {
			return err
		}
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
	}
	return w.Flush()
}

// findLines reads a result file to its end and returns its lines as they come.
func findLines(file *os.File, size int64) ([]extent, error) {
	read := &countingReader{in: file}
	// wire.ReadExec reads from a buffered reader that is large enough as it is
	// (see bufio.NewReaderSize), so what is in the buffer is what is not read yet.
	in := bufio.NewReaderSize(read, 1<<20)
	var lines []extent
	_, err := wire.ReadExec(in, size, wire.ExecVisitor{
		Line: func(_ time.Duration, _ io.Reader, size int64) error {
			lines = append(lines, extent{read.n - int64(in.Buffered()), size})
			return nil
		},
	})
	return lines, err
}

type countingReader struct {
	in io.Reader
	n  int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}
