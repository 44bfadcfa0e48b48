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
		return record{}, fmt.Errorf("version %d is unknown, this program knows %d", version, recordVersion)
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

func (s *Store) readFile(name string) ([]byte, error) {
	f, err := s.fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// readDurable is readRecord for a record that somebody else may have left there
// just before the last sync of Commit: nothing may be told of it before that.
func (s *Store) readDurable(dir string) (record, error) {
	r, err := s.readRecord(dir)
	if err != nil {
		return record{}, err
	}
	if err := s.fsys.SyncDir(dir); err != nil {
		return record{}, fmt.Errorf("syncing record: %w", err)
	}
	return r, nil
}

// Recorded looks for the record of a build that may have been committed shortly
// before the server died, whose end nobody else knows of. When it is found, it
// and all that it names is durable. A damaged record is an error.
func (s *Store) Recorded(jobName string, id uuid.UUID) (job.Build, bool, error) {
	r, err := s.readDurable(s.dir(place{ours, directoryName(jobName), id}))
	if errors.Is(err, fs.ErrNotExist) {
		return job.Build{}, false, nil
	}
	return r.build, err == nil, err
}
