package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"builder/pkg/program"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// inspectFlags are the flags of inspect as typed.
type inspectFlags struct {
	console, script, job, force bool
	output                      string
}

func inspect() *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what is in a result file, or take the artifacts out of it",
		Long: `Inspect reads a result file as export writes it, and as robur's builder leaves it
as JOB/UUID/full in its directory; - is standard input. It prints a summary, or
what is asked for. It asks no server.

With --output the artifacts are written below a directory, which is made if
need be, and never to a place outside it. A file that exists is left alone unless
--force is given. What can not be written is told, and the exit status is 1 when
the rest is done. Result files carry no modes: chmod +x what is to be executed.`,
		Example: `  builder-client inspect nightly.result
  builder-client inspect nightly.result --console
  builder-client inspect /var/db/builder/nightly/3f1c9a2e-0b7c-4a5e-9d3c-5f0a1b2c3d4e/full --output artifacts`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			file, size, err := openResult(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			if err := checkResult(file, size); err != nil {
				return fmt.Errorf("%s is not a result file: %w", quoted(args[0]), err)
			}
			err = f.show(cmd, file, size)
			var writing *writingError
			if err == nil || errors.Is(err, program.ErrSilent) || errors.As(err, &writing) {
				return err
			}
			return fmt.Errorf("reading result file %s: %w", quoted(args[0]), err)
		},
	}
	cmd.Flags().BoolVar(&f.console, "console", false, "print the console, oldest line first")
	cmd.Flags().BoolVar(&f.script, "script", false, "print the script")
	cmd.Flags().BoolVar(&f.job, "job", false, "print the names of the job and its platform")
	cmd.Flags().StringVar(&f.output, "output", "", "write the artifacts below this `directory`")
	cmd.Flags().BoolVar(&f.force, "force", false, "with --output, replace files that exist")
	return cmd
}

func (f *inspectFlags) check(cmd *cobra.Command) error {
	asked := 0
	for _, name := range []string{"console", "script", "job", "output"} {
		if cmd.Flags().Changed(name) {
			asked++
		}
	}
	switch {
	case asked > 1:
		return usagef("use one of --console, --script, --job and --output")
	case f.output == "" && cmd.Flags().Changed("output"):
		return usagef(`--output "": the name is empty`)
	case f.output == "" && f.force:
		return usagef("--force goes with --output only")
	}
	return nil
}

func (f *inspectFlags) show(cmd *cobra.Command, file *os.File, size int64) error {
	out := marking{Writer: cmd.OutOrStdout()}
	switch {
	case f.console:
		return printConsole(out, file, size)
	case f.output != "":
		return extract(out, marking{Writer: cmd.ErrOrStderr()}, file, size, f.output, f.force)
	case f.script, f.job:
		e, err := wire.ReadExec(file, size, wire.ExecVisitor{})
		if err != nil {
			return err
		}
		if f.script {
			_, err = out.Write(e.Job.Script.Data)
		} else {
			_, err = fmt.Fprintf(out, "job %s\nplatform %s\n", quoted(e.Job.Name), quoted(e.Job.Platform))
		}
		return err
	}
	return printSummary(out, file, size)
}

// writingError is one of where something is written to, not of the file that is read.
type writingError struct{ error }

func (e *writingError) Unwrap() error { return e.error }

// marking makes the errors of a writer ones of writing, of an artifact unless its name
// is empty.
type marking struct {
	io.Writer
	artifact string
}

func (m marking) Write(p []byte) (int, error) {
	n, err := m.Writer.Write(p)
	return n, m.mark(err)
}

func (m marking) mark(err error) error {
	if err == nil {
		return nil
	}
	if m.artifact != "" {
		err = fmt.Errorf("writing %w", naming(m.artifact, err))
	}
	return &writingError{err}
}

// openResult opens a result file to be read from anywhere; standard input for
// "-". What is no regular file is copied to one that has no name.
func openResult(stdin io.Reader, name string) (*os.File, int64, error) {
	if name == "-" {
		return spool(stdin)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		return file, info.Size(), nil
	}
	defer file.Close()
	switch {
	case err != nil:
		return nil, 0, err
	case info.IsDir():
		return nil, 0, fmt.Errorf("%s is a directory: name the result file in it", quoted(name))
	}
	return spool(file)
}

// checkResult tells what never was a result file from one that is damaged.
func checkResult(file io.ReaderAt, size int64) error {
	if size == 0 {
		return errors.New("it is empty")
	}
	var first [1]byte
	if _, err := file.ReadAt(first[:], 0); err != nil {
		return err
	}
	const (
		result = 0xa0 // [0], explicit
		state  = 0x30 // SEQUENCE
	)
	switch first[0] {
	case result:
		return nil
	case state:
		return errors.New("it begins as a state file, or as text; export writes result files")
	}
	return errors.New("it does not begin as one; export writes them, and robur's builder as JOB/UUID/full")
}

// spool copies a stream to a file.
func spool(in io.Reader) (*os.File, int64, error) {
	file, err := os.CreateTemp("", "builder-client-")
	if err != nil {
		return nil, 0, err
	}
	err = os.Remove(file.Name())
	size := int64(0)
	if err == nil {
		size, err = io.Copy(file, in)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("copying the result file: %w", err), file.Close())
	}
	return file, size, nil
}

// maxListed is how many artifacts a summary names.
const maxListed = 10_000

// printSummary tells in a few lines what the file holds.
func printSummary(out io.Writer, in io.Reader, size int64) error {
	var lines, files int
	var octets, total int64
	var listed []string
	e, err := wire.ReadExec(in, size, wire.ExecVisitor{
		Line: func(_ time.Duration, _ io.Reader, size int64) error {
			lines++
			octets += size
			return nil
		},
		File: func(path string, data io.Reader, size int64) error {
			files++
			total += size
			sum := sha256.New()
			if _, err := io.Copy(sum, data); err != nil {
				return err
			}
			if files <= maxListed {
				listed = append(listed, fmt.Sprintf("%x\t%d\t%s", sum.Sum(nil), size, quoted(path)))
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "job\t%s\nplatform\t%s\nbuild\t%s\n", quoted(e.Job.Name), quoted(e.Job.Platform), uuid.UUID(e.UUID))
	fmt.Fprintf(t, "started\t%s\nfinished\t%s (%s)\n", clock(e.Started), clock(e.Finished), span(e.Finished.Sub(e.Started)))
	fmt.Fprintf(t, "result\t%s\nscript\t%s\n", harmless(e.Result.String()), count(len(e.Job.Script.Data), "octet"))
	fmt.Fprintf(t, "console\t%s, %s\n", count(lines, "line"), count(int(octets), "octet"))
	fmt.Fprintf(t, "artifacts\t%d, %s\n", files, count(int(total), "octet"))
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range listed {
		fmt.Fprintf(t, "  %s\n", line)
	}
	if files > len(listed) {
		fmt.Fprintf(t, "  and %d more\n", files-len(listed))
	}
	return t.Flush()
}
