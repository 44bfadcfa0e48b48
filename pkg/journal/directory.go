package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"builder/pkg/disk"
)

// directory is the files of a journal.
type directory struct {
	fsys disk.FS
	path string
}

const (
	segmentPrefix   = "journal-"
	snapshotPrefix  = "snapshot-"
	temporarySuffix = ".tmp" // of disk.WriteFile
)

func (d directory) segment(first uint64) string {
	return filepath.Join(d.path, fmt.Sprintf("%s%016x", segmentPrefix, first))
}

func (d directory) snapshot(last uint64) string {
	return filepath.Join(d.path, fmt.Sprintf("%s%016x", snapshotPrefix, last))
}

// listing is the files by kind, in ascending order; other files are no business
// of the journal.
type listing struct {
	segments, snapshots []uint64
	temporary           []string
}

func (d directory) list() (listing, error) {
	var l listing
	entries, err := d.fsys.ReadDir(d.path)
	if err != nil {
		return l, fmt.Errorf("reading journal: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		complete := strings.TrimSuffix(name, temporarySuffix)
		first, isSegment := number(complete, segmentPrefix)
		last, isSnapshot := number(complete, snapshotPrefix)
		switch {
		case !isSegment && !isSnapshot:
		case complete != name:
			l.temporary = append(l.temporary, filepath.Join(d.path, name))
		case isSegment:
			l.segments = append(l.segments, first)
		default:
			l.snapshots = append(l.snapshots, last)
		}
	}
	slices.Sort(l.segments)
	slices.Sort(l.snapshots)
	return l, nil
}

// number parses names in exactly the form that segment and snapshot give them.
func number(name, prefix string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, ok && err == nil && n > 0 && digits == fmt.Sprintf("%016x", n)
}

// open opens a file to read and checks its header against its name.
func (d directory) open(name string, magic [8]byte, seq uint64) (disk.File, header, int64, error) {
	f, err := d.fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, header{}, 0, fmt.Errorf("reading journal: %w", err)
	}
	h, size, err := readHeader(f)
	if err == nil && (h.magic != magic || h.seq != seq) {
		err = badBatch("the file's header is that of another file")
	}
	if err != nil {
		f.Close()
		return nil, header{}, 0, damaged(name, 0, err)
	}
	return f, h, size, nil
}

func readHeader(f disk.File) (header, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return header{}, 0, err
	}
	if info.Size() < headerSize {
		return header{}, 0, badBatch("the file's header is cut short")
	}
	p := make([]byte, headerSize)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return header{}, 0, err
	}
	h, err := decodeHeader(p)
	return h, info.Size(), err
}

// removeOlder removes all that the snapshot after batch last stands for. Nothing
// needs a sync: what comes back is removed by the next Open.
func (d directory) removeOlder(last uint64) error {
	l, err := d.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, first := range l.segments {
		if first <= last {
			errs = append(errs, d.fsys.Remove(d.segment(first)))
		}
	}
	for _, older := range l.snapshots {
		if older < last {
			errs = append(errs, d.fsys.Remove(d.snapshot(older)))
		}
	}
	return errors.Join(errs...)
}

// damaged says where err is, and that it is damage, when it is: not when
// reading failed, which says nothing about what is on the disk.
func damaged(name string, offset int64, err error) error {
	var bad badBatch
	switch {
	case errors.Is(err, io.EOF):
		err = badBatch("the end mark is missing")
	case !errors.As(err, &bad):
		return fmt.Errorf("reading %s at offset %d: %w", name, offset, err)
	}
	return &DamageError{File: name, Offset: offset, Err: err}
}
