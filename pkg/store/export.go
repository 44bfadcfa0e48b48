package store

import (
	"context"
	"fmt"
	"io"

	"builder/pkg/console"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Export returns a build as a result file of the reference: its size, and what
// writes it, in constant memory, as often as it is called. A result that the
// reference left is given as it lies there; ours is encoded from the record.
// What is missing or cut is found here; of what was pruned the error is a
// [*PrunedError]. Octets that were changed are found by
// write: it then fails before it has written the last of them.
func (s *Store) Export(id uuid.UUID) (size int64, write func(io.Writer) error, err error) {
	p, err := s.index.find(id)
	if err != nil {
		return 0, nil, err
	}
	if p.origin == theirs {
		return s.exportResult(p)
	}
	dir := s.dir(p)
	rec, err := s.readRecord(dir)
	if err != nil {
		return 0, nil, err
	}
	b := rec.build
	if _, err := s.artifactsOf(p, b); err != nil {
		return 0, nil, fmt.Errorf("exporting build %v: %w", id, err)
	}
	lines, err := s.exportConsole(dir, rec)
	if err != nil {
		return 0, nil, err
	}
	if err := s.checkContents(b); err != nil {
		return 0, nil, fmt.Errorf("exporting build %v: %w", id, err)
	}
	files := make([]wire.File, len(b.Artifacts))
	for i, a := range b.Artifacts {
		open := func() (io.ReadCloser, error) { return s.open(context.Background(), a) }
		files[i] = wire.File{Path: a.Path, Mode: uint32(a.Mode), Data: wire.Blob{Size: a.Size, Open: open}}
	}
	encoded := wire.EncodeExec(wire.Exec{
		Job:  wire.ScriptJob{Name: b.Job, Platform: b.Platform, Script: s.blob(b.Script)},
		UUID: b.UUID, Started: b.Started, Finished: b.Finished, Result: b.Result.Legacy(),
	}, lines, files)
	return encoded.Size(), func(w io.Writer) error {
		if _, err := encoded.WriteTo(w); err != nil {
			return fmt.Errorf("exporting build %v: %w", id, err)
		}
		return nil
	}, nil
}

// checkContents finds what is missing or cut of a build's script and artifacts,
// by their lengths alone.
func (s *Store) checkContents(b job.Build) error {
	if !b.Script.IsZero() && !s.HasContent(b.Script) {
		return fmt.Errorf("%w: its script (content %v) is missing or cut", ErrDamaged, b.Script)
	}
	for _, a := range b.Artifacts {
		if a.Location == "" && !s.HasContent(a.Content) {
			return fmt.Errorf("%w: the artifact %q (content %v) is missing or cut", ErrDamaged, a.Path, a.Content)
		}
	}
	return s.checkElsewhere(context.Background(), b.Artifacts)
}

// blob is a content to be encoded; that of a script that never was is empty.
func (s *Store) blob(c job.Content) wire.Blob {
	if c.IsZero() {
		return wire.Blob{}
	}
	return wire.Blob{Size: c.Size, Open: func() (io.ReadCloser, error) { return s.OpenChecked(c) }}
}

// exportConsole reads the console once for the size of its encoding, and again
// when that is written.
func (s *Store) exportConsole(dir string, rec record) (wire.Console, error) {
	r, err := s.openConsole(dir, rec)
	if err != nil {
		return wire.Console{}, err
	}
	defer r.Close() //nolint:errcheck // only read from
	size := int64(0)
	for many, err := range r.Forward(0) {
		if err != nil {
			return wire.Console{}, err
		}
		for more := true; more; {
			var line job.Line
			line, many, more = many.Cut()
			size += wire.ConsoleLineSize(line.Delta, int64(len(line.Data)))
		}
	}
	return wire.Console{Size: size, Write: func(w io.Writer) error {
		r, err := s.openConsole(dir, rec)
		if err != nil {
			return err
		}
		defer r.Close() //nolint:errcheck // only read from
		return writeBackward(w, r)
	}}, nil
}

// writeBackward writes the lines newest first, many at once.
func writeBackward(w io.Writer, r *console.Reader) error {
	buffer := make([]byte, 0, 2*console.MaxLine)
	for line, err := range r.Backward() {
		if err != nil {
			return err
		}
		if buffer = wire.AppendConsoleLine(buffer, line.Delta, line.Data); len(buffer) < console.MaxLine {
			continue
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
		buffer = buffer[:0]
	}
	_, err := w.Write(buffer)
	return err
}

// exportResult gives the reference's file as it is.
func (s *Store) exportResult(p place) (int64, func(io.Writer) error, error) {
	found, err := s.openResult(p)
	if err != nil {
		return 0, nil, fmt.Errorf("exporting build %v: %w", p.id, err)
	}
	size := found.size
	found.file.Close()
	return size, func(w io.Writer) error {
		r, err := s.openResult(p)
		if err != nil {
			return err
		}
		defer r.file.Close()
		_, err = io.Copy(w, &exactly{r.in, size})
		return err
	}, nil
}
