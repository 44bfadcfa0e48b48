package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"builder/pkg/console"
	"builder/pkg/der"
	"builder/pkg/disk"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// entry is a committed build in the log: what its files hold.
//
//	SEQUENCE { directory, uuid, record, console, index UTF8String }
//
// The directory is the job's. A record may be of a later release.
type entry struct {
	place               place
	record, text, index []byte

	// doubtful: the files may look as they should and not be so on the disk, since a
	// sync of them failed, perhaps in an earlier process.
	doubtful bool
}

func (e entry) encode() []byte {
	var w der.Writer
	w.Sequence(func() {
		w.Text(e.place.job)
		w.Octets(e.place.id[:])
		w.Octets(e.record)
		w.Octets(e.text)
		w.Octets(e.index)
	})
	return w.Data
}

// decodeEntry is the inverse of encode. What it returns shares no memory with data.
func decodeEntry(data []byte) (entry, error) {
	reader := der.NewReader(bytes.Clone(data))
	in := reader.Enter(der.Sequence)
	e := entry{
		place:  place{ours, in.Text(), job.DecodeUUID(&in)},
		record: in.Octets(), text: in.Octets(), index: in.Octets(),
	}
	reader.Done()
	if err := reader.Err(); err != nil {
		return entry{}, fmt.Errorf("reading a committed build: %w", err)
	}
	return e, nil
}

// size is how many octets of memory it takes.
func (e entry) size() int { return len(e.record) + len(e.text) + len(e.index) }

// part is one file of a build.
type part struct {
	name string
	data []byte
}

func (e entry) parts() []part {
	return []part{{console.TextFile, e.text}, {console.IndexFile, e.index}, {recordFile, e.record}}
}

// whole reports whether the files of the build look as they should.
func (e entry) whole(s *Store) bool {
	for _, p := range e.parts() {
		data, err := s.readFile(filepath.Join(s.dir(e.place), p.name))
		if err != nil || !bytes.Equal(data, p.data) {
			return false
		}
	}
	return true
}

// write writes the files of the build; one that is whole is so all the time.
func (e entry) write(s *Store) error {
	dir := s.dir(e.place)
	for _, name := range []string{filepath.Dir(dir), dir} {
		if err := s.fsys.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, p := range e.parts() {
		if err := p.write(s.fsys, dir); err != nil {
			return err
		}
	}
	return nil
}

func (p part) write(fsys disk.FS, dir string) error {
	f, err := fsys.OpenFile(filepath.Join(dir, p.name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(p.data)
	if err == nil {
		err = f.Truncate(int64(len(p.data)))
	}
	return errors.Join(err, f.Close())
}

// sync makes the files durable that write has written, one by one.
func (e entry) sync(s *Store) error {
	dir := s.dir(e.place)
	for _, p := range e.parts() {
		f, err := s.fsys.OpenFile(filepath.Join(dir, p.name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return s.syncNames(dir)
}

// syncNames makes the names in the directory of a build of ours durable, and its own.
func (s *Store) syncNames(dir string) error {
	for _, name := range []string{dir, filepath.Dir(dir), s.builds()} {
		if err := s.fsys.SyncDir(name); err != nil {
			return err
		}
	}
	return nil
}

// recent is the state of the log: the builds in it but those that were settled.
type recent struct {
	settled map[uuid.UUID]entry
	entries map[uuid.UUID]entry
}

func newRecent(settled map[uuid.UUID]entry) *recent {
	return &recent{settled, map[uuid.UUID]entry{}}
}

// Apply implements [journal.State]. An empty record is none.
func (r *recent) Apply(record []byte) error {
	if len(record) == 0 {
		return nil
	}
	e, err := decodeEntry(record)
	if err != nil {
		return err
	}
	if _, done := r.settled[e.place.id]; !done {
		r.entries[e.place.id] = e
	}
	return nil
}

// Snapshot implements [journal.State].
func (r *recent) Snapshot() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, e := range r.entries {
			if !yield(e.encode()) {
				return
			}
		}
	}
}
