package journal

import (
	"io"
	"os"

	"builder/pkg/disk"
)

// segment is the one that batches are appended to.
type segment struct {
	header
	file disk.File // its offset is size
	size int64     // all of it is synced
}

// create makes an empty segment, durable with its name. When it fails, the
// segment may be found later, or not.
func (d directory) create(h header) (*segment, error) {
	h = newHeader(h)
	name := d.segment(h.seq)
	err := disk.WriteFile(d.fsys, name, 0o644, func(w io.Writer) error {
		_, err := w.Write(h.encode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return d.openSegment(h, headerSize)
}

func (d directory) openSegment(h header, size int64) (*segment, error) {
	f, err := d.fsys.OpenFile(d.segment(h.seq), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(size, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return &segment{h, f, size}, nil
}

// cutBack removes all that is not synced.
func (s *segment) cutBack() error {
	if err := s.file.Truncate(s.size); err != nil {
		return err
	}
	if _, err := s.file.Seek(s.size, io.SeekStart); err != nil {
		return err
	}
	return s.file.Sync()
}

// resume makes durable what load has found, removes what no longer counts, and
// returns the segment to append to.
func (d directory) resume(f found) (*segment, error) {
	// The process before may have died between a rename and the sync of it. Only
	// with that sync done may what the renamed file replaces be removed.
	if err := d.fsys.SyncDir(d.path); err != nil {
		return nil, err
	}
	for _, name := range f.temporary {
		if err := d.fsys.Remove(name); err != nil {
			return nil, err
		}
	}
	if err := d.removeOlder(f.snapshot); err != nil {
		return nil, err
	}
	if f.seq == 0 && f.last.size == 0 {
		return d.create(header{magic: segmentMagic, seq: 1})
	}
	s, err := d.openSegment(f.last.header, f.last.end)
	if err != nil {
		return nil, err
	}
	if err := s.settle(f.last); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

// settle cuts off a torn write and makes the last batch durable: it may have been
// written by a process that died before its sync returned, or after it failed,
// and then a sync alone would prove nothing. So it is written once more. (Without
// a batch the header is: what a dead process cut off must not come back either.)
func (s *segment) settle(t tail) error {
	if t.size > t.end {
		if err := s.file.Truncate(t.end); err != nil {
			return err
		}
	}
	last := make([]byte, t.end-t.lastOffset)
	if n, err := s.file.ReadAt(last, t.lastOffset); n < len(last) {
		return err
	}
	if _, err := s.file.Seek(t.lastOffset, io.SeekStart); err != nil {
		return err
	}
	if _, err := s.file.Write(last); err != nil {
		return err
	}
	return s.file.Sync()
}
