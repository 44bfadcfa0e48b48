package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

const (
	recordFile    = "record"
	recordMagic   = "builder\n"
	recordVersion = 1
	recordHeader  = len(recordMagic) + 4
	recordSum     = 4
)

// errUnknownVersion says so of a version: a later release wrote the record.
var errUnknownVersion = errors.New("is unknown")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is what a record file holds.
type record struct {
	build job.Build
	lines int64 // of its console
	text  int64 // octets of its console
}

// encode returns the record file. Times are what may come from elsewhere and not
// fit: the encoding holds nanoseconds.
func (r record) encode() ([]byte, error) {
	for _, t := range []time.Time{r.build.Started, r.build.Finished} {
		if year := t.UTC().Year(); !t.IsZero() && (year < 1900 || year > 2100) {
			return nil, fmt.Errorf("encoding record: the year %d is out of range", year)
		}
	}
	w := der.Writer{Data: binary.BigEndian.AppendUint32([]byte(recordMagic), recordVersion)}
	w.Sequence(func() {
		job.EncodeBuild(&w, r.build)
		w.Sequence(func() {
			w.Int(r.lines)
			w.Int(r.text)
		})
	})
	return binary.BigEndian.AppendUint32(w.Data, crc32.Checksum(w.Data, castagnoli)), nil
}

// decodeRecord is the inverse of encode.
func decodeRecord(data []byte) (record, error) {
	if len(data) < recordHeader+recordSum || string(data[:len(recordMagic)]) != recordMagic {
		return record{}, fmt.Errorf("%w: it does not begin as a record", ErrDamaged)
	}
	body, sum := data[:len(data)-recordSum], binary.BigEndian.Uint32(data[len(data)-recordSum:])
	if crc32.Checksum(body, castagnoli) != sum {
		return record{}, fmt.Errorf("%w: the checksum does not match its %d octets", ErrDamaged, len(data))
	}
	if version := binary.BigEndian.Uint32(body[len(recordMagic):]); version != recordVersion {
		return record{}, fmt.Errorf("version %d %w, this program knows %d", version, errUnknownVersion, recordVersion)
	}
	reader := der.NewReader(body[recordHeader:])
	in := reader.Enter(der.Sequence)
	r := record{build: job.DecodeBuild(&in)}
	printed := in.Enter(der.Sequence)
	r.lines, r.text = printed.Int(), printed.Int()
	reader.Done()
	if err := reader.Err(); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// readRecord reads the record in the directory of a build.
func (s *Store) readRecord(dir string) (record, error) {
	name := filepath.Join(dir, recordFile)
	data, err := s.readFile(name)
	if err != nil {
		return record{}, fmt.Errorf("reading record: %w", err)
	}
	r, err := decodeRecord(data)
	if err != nil {
		return record{}, fmt.Errorf("reading record %s: %w", name, err)
	}
	return r, nil
}

// recordOf reads the record of a build that the index has: it may know of one that
// was just removed.
func (s *Store) recordOf(p place) (record, error) {
	r, err := s.readRecord(s.dir(p))
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := s.fsys.Stat(s.dir(p)); errors.Is(gone, fs.ErrNotExist) {
			err = fmt.Errorf("build %v was just removed: %w", p.id, ErrNotFound)
		}
	}
	return r, err
}

func (s *Store) readFile(name string) ([]byte, error) {
	f, err := s.fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Recorded looks for the record of a build whose end nobody else knows of, since
// the server died before it could note it. When that is found, and the console is
// all there, the build is durable then and is listed; anything else is what a
// commit that did not come to its end has left, and no record. There must be no
// draft of that build.
func (s *Store) Recorded(jobName string, id uuid.UUID) (job.Build, bool, error) {
	p := place{ours, directoryName(jobName), id}
	if data, ok := s.ahead.record(p); ok {
		r, err := decodeRecord(data)
		if err == nil {
			s.index.add(rowOf(p, r.build))
		}
		return r.build, err == nil, err
	}
	r, err := s.readRecord(s.dir(p))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrDamaged):
		return job.Build{}, false, nil
	case err != nil:
		return job.Build{}, false, err
	}
	d, err := s.Resume(jobName, id)
	if err != nil {
		return job.Build{}, false, err
	}
	if d.console.Lines() != r.lines || d.console.Size() != r.text {
		return job.Build{}, false, d.Suspend()
	}
	if err = errors.Join(d.syncFound(), d.Abandon()); err != nil {
		return job.Build{}, false, err
	}
	s.index.add(rowOf(p, r.build))
	return r.build, true, nil
}

// syncFound makes a record durable that was found beside a whole console. What
// that holds is since it was reopened, and contents are before there is a record.
func (d *Draft) syncFound() error {
	f, err := d.store.fsys.OpenFile(filepath.Join(d.dir, recordFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), d.store.dirs.sync(d.pending))
}
