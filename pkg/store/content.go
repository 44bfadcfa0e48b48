package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"builder/pkg/disk"
	"builder/pkg/job"
)

// Put is PutHeld for a content that something names before there is a Prune.
func (s *Store) Put(r io.Reader) (job.Content, error) {
	c, release, err := s.PutHeld(r)
	if err == nil {
		release()
	}
	return c, err
}

// PutHeld stores the octets that r gives, until io.EOF, in constant memory. They are
// durable when it returns. A content that the store has is not written again. No
// Prune removes it before release is called, which has to be done when a record,
// or what Prune is told, names it. After an error there is nothing to release.
func (s *Store) PutHeld(r io.Reader) (c job.Content, release func(), err error) {
	h := s.use.hold()
	in, err := s.receive(r, h)
	if err == nil {
		err = s.settle(in, h)
	}
	if err != nil {
		h.release()
		return job.Content{}, nil, fmt.Errorf("storing content: %w", err)
	}
	return in.content, h.release, nil
}

// settle makes one content durable in its place.
func (s *Store) settle(in *incoming, h *hold) error {
	if err := in.sync(); err != nil {
		s.discard(in)
		return err
	}
	pending := pendingSyncs{}
	if err := s.keep(in, h, pending); err != nil {
		s.discard(in)
		return err
	}
	return s.dirs.sync(pending)
}

// HasContent reports whether c can be opened. It may not be durable yet: that it
// is when [Draft.Commit] or [Store.PutHeld] has returned. It may be gone at once if
// nothing names it.
func (s *Store) HasContent(c job.Content) bool {
	info, err := s.fsys.Stat(s.contentFile(c))
	return err == nil && info.Size() == c.Size
}

// OpenChecked is OpenContent for who relies on it: when the octets are not those
// of the hash, the reader fails with an [ErrDamaged] before it gives the last of
// them, so that nobody takes them for the content. They are not looked at again within
// ten minutes after they came and were held to it.
func (s *Store) OpenChecked(c job.Content) (io.ReadCloser, error) {
	in, info, err := s.openFile(c)
	if err != nil {
		return nil, err
	}
	if s.justReceived.has(c, info) {
		return in, nil
	}
	return checkedAgainst(c, in), nil
}

func checkedAgainst(c job.Content, in io.ReadCloser) io.ReadCloser {
	return &checked{ReadCloser: in, content: c, sum: sha256.New(), left: c.Size}
}

// checked holds what is read of a content to its hash.
type checked struct {
	io.ReadCloser
	content job.Content
	sum     hash.Hash
	left    int64
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n])
	if c.left -= int64(n); n > 0 && c.left == 0 && contentOf(c.sum, c.content.Size) != c.content {
		return 0, fmt.Errorf("reading content %v: %w: its octets were changed", c.content, ErrDamaged)
	}
	return n, err
}

// OpenContent opens c for reading; the caller closes it. When it is missing the
// error is an fs.ErrNotExist, when it has another size an [ErrDamaged].
func (s *Store) OpenContent(c job.Content) (io.ReadCloser, error) { return s.openContent(c) }

func (s *Store) openContent(c job.Content) (disk.File, error) {
	f, _, err := s.openFile(c)
	return f, err
}

func (s *Store) openFile(c job.Content) (disk.File, fs.FileInfo, error) {
	f, err := s.fsys.OpenFile(s.contentFile(c), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("opening content %v: it is missing from the store: %w", c, fs.ErrNotExist)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening content %v: %w", c, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != c.Size {
		err = fmt.Errorf("%w: it has %d octets, expected %d", ErrDamaged, info.Size(), c.Size)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("opening content %v: %w", c, err)
	}
	return f, info, nil
}

// ContentPath is the absolute path of c, for programs that are told of it, which must
// not change it; empty when it is not there.
func (s *Store) ContentPath(c job.Content) string {
	path, err := filepath.Abs(s.contentFile(c))
	if err != nil || !s.HasContent(c) {
		return ""
	}
	return path
}

// contentFile joins names by hand, as there are ten thousands of them: filepath.Join
// costs more than the file system does.
func (s *Store) contentFile(c job.Content) string {
	return s.contents + "/" + contentName(c)
}

// contentName is that of c in its store, in this one as in others.
func contentName(c job.Content) string {
	name := c.String()
	return name[:2] + "/" + name
}

func (s *Store) contentDir(c job.Content) string {
	return s.contents + "/" + hex.EncodeToString(c.SHA256[:1])
}

// incoming is a content that has been received, but is not in its place yet.
type incoming struct {
	content job.Content
	name    string    // empty if the store has the content already
	file    disk.File // open until it is synced, or left to a barrier
}

// buffers keep many small contents from costing a buffer each.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// receive reads r to its end. What fits into the buffer and is known already is
// not written at all. The content is held.
func (s *Store) receive(r io.Reader, h *hold) (*incoming, error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	sum := sha256.New()
	n, ended := fill(r, *buffer)
	sum.Write((*buffer)[:n])
	if errors.Is(ended, io.EOF) {
		if c := contentOf(sum, int64(n)); s.holdsContent(h, c) {
			return &incoming{content: c}, nil
		}
	}
	in := &incoming{name: filepath.Join(s.temporaries, strconv.FormatUint(s.received.Add(1), 10))}
	var err error
	if in.file, err = s.fsys.OpenFile(in.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return nil, err
	}
	for size := int64(0); err == nil; {
		if _, err = in.file.Write((*buffer)[:n]); err != nil {
			break
		}
		if size += int64(n); ended != nil {
			in.content, err = contentOf(sum, size), ended
			break
		}
		n, ended = fill(r, *buffer)
		sum.Write((*buffer)[:n])
	}
	if !errors.Is(err, io.EOF) {
		s.discard(in)
		return nil, err
	}
	if s.holdsContent(h, in.content) {
		s.discard(in)
	}
	return in, nil
}

func contentOf(sum hash.Hash, size int64) job.Content {
	c := job.Content{Size: size}
	sum.Sum(c.SHA256[:0])
	return c
}

// fill reads until buffer is full or r has ended or failed. (Of io.ReadFull it
// could not be told whether it was r that returned io.ErrUnexpectedEOF.)
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var read int
		read, err = r.Read(buffer[n:])
		n += read
	}
	return n, err
}

// sync makes the data durable and closes the file. After an error the data is
// lost: the system may believe that it is on disk.
func (in *incoming) sync() error {
	if in.file == nil {
		return nil
	}
	err := in.file.Sync()
	if cerr := in.close(); err == nil {
		err = cerr
	}
	return err
}

// close closes the file without a sync.
func (in *incoming) close() error {
	if in.file == nil {
		return nil
	}
	err := in.file.Close()
	in.file = nil
	return err
}

// keep moves synced data to its place and adds the directories that have to be
// synced: also when the content was there already, unless its directory has been
// synced since, as whoever put it there may not have come to that yet. It is held.
func (s *Store) keep(in *incoming, h *hold, pending pendingSyncs) error {
	h.add(in.content)
	dir := s.contentDir(in.content)
	if in.name == "" && s.dirs.settled(dir) {
		return nil
	}
	if err := s.dirs.make(dir, pending); err != nil {
		return err
	}
	if in.name != "" {
		s.dirs.moving(dir)
		if err := s.fsys.Rename(in.name, s.contentFile(in.content)); err != nil {
			return err
		}
		in.name = ""
		if in.content.Size >= receivedSize {
			if info, err := s.fsys.Stat(s.contentFile(in.content)); err == nil {
				s.justReceived.add(in.content, info)
			}
		}
	}
	pending.add(dir)
	pending.add(s.temporaries)
	return nil
}

// discard removes the data, if it is not in its place yet. A file that stays for
// any reason is removed at the next start.
func (s *Store) discard(in *incoming) {
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
	if in.name != "" {
		s.fsys.Remove(in.name) //nolint:errcheck // see above
		in.name = ""
	}
}
