package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"builder/pkg/disk"
	"builder/pkg/wire"
)

// A spool's files are records, one behind the other, each
//
//	sum     4 octets  CRC-32C of all that follows, and before it of the offset at
//	                  which the record stands
//	length  4 octets  of the body
//	kind    1 octet
//	body
//
// Numbers are big-endian. Records are written with write(2): what was written
// survives any death of the process. It is not synced: a power cut may take the
// end of a file, which is found by the sums.
type recordKind byte

const (
	recordStart  recordKind = 's' // the Start message, without its script
	recordPlace  recordKind = 'p' // name of the place
	recordLines  recordKind = 'l' // see piece
	recordMark   recordKind = 'm' // empty: the head of the console ends here, see tail
	recordExited recordKind = 'x' // a Done message: the script has ended, artifacts are not listed yet
	recordDone   recordKind = 'd' // the Done message
)

const recordHeader = 9

// maxRecord is the longest body: a message with its tag.
const maxRecord = 65 << 20

// errDamaged says that no valid record stands there.
var errDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(at int64, rest []byte) uint32 {
	var offset [8]byte
	binary.BigEndian.PutUint64(offset[:], uint64(at))
	return crc32.Update(crc32.Checksum(offset[:], castagnoli), castagnoli, rest)
}

// records is a file of records that is being appended to.
type records struct {
	name    string
	file    *os.File // which may have been opened by another name
	end     int64    // of what was written
	pending []byte   // what flush writes
}

// createRecords makes a file, which must not exist.
func createRecords(name string) (*records, error) {
	return openRecords(name, os.O_CREATE|os.O_EXCL)
}

func openRecords(name string, flags int) (*records, error) {
	f, err := disk.OpenFile(name, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &records{name: name, file: f}, nil
}

// remove closes and removes the file.
func (r *records) remove() error { return errors.Join(r.file.Close(), os.Remove(r.name)) }

// add appends a record; flush writes it.
func (r *records) add(kind recordKind, head, body []byte) {
	begin := len(r.pending)
	r.pending = append(r.pending, 0, 0, 0, 0)
	r.pending = binary.BigEndian.AppendUint32(r.pending, uint32(len(head)+len(body)))
	r.pending = append(r.pending, byte(kind))
	r.pending = append(append(r.pending, head...), body...)
	record := r.pending[begin:]
	binary.BigEndian.PutUint32(record, checksum(r.end+int64(begin), record[4:]))
}

// flush writes what was added. On an error nothing of it is in the file.
func (r *records) flush() error {
	n, err := r.file.WriteAt(r.pending, r.end)
	r.pending = r.pending[:0]
	if err != nil {
		return errors.Join(r.named(err), r.named(r.file.Truncate(r.end)))
	}
	r.end += int64(n)
	return nil
}

// cut takes off what stands behind end.
func (r *records) cut(end int64) error {
	r.end, r.pending = end, r.pending[:0]
	return r.named(r.file.Truncate(end))
}

// ReadAt implements [io.ReaderAt].
func (r *records) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.file.ReadAt(p, at)
	return n, r.named(err)
}

// named has an error of the file tell its name.
func (r *records) named(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		of.Path = r.name
	}
	return err
}

// cursor reads the records of a file one after the other.
type cursor struct {
	file   io.ReaderAt
	at     int64 // offset of the next record
	end    int64 // where to stop
	buffer *[]byte
	data   []byte // octets of the file from at on, a part of buffer
}

// cursorBuffer has room for a few pieces of the console.
const cursorBuffer = 112 << 10

var cursorBuffers = sync.Pool{New: func() any {
	b := make([]byte, cursorBuffer)
	return &b
}}

// newCursor reads file from its beginning. Close it.
func newCursor(file io.ReaderAt) *cursor {
	return &cursor{file: file, buffer: cursorBuffers.Get().(*[]byte)}
}

func (c *cursor) Close() {
	if c.buffer != nil && len(*c.buffer) == cursorBuffer {
		cursorBuffers.Put(c.buffer)
	}
	c.buffer, c.data = nil, nil
}

// next is the next record. Its body is valid until the next call of next, unless
// ready said before that call that it was at hand. The error is io.EOF at the end,
// errDamaged where no valid record stands.
func (c *cursor) next() (recordKind, []byte, error) {
	if c.at >= c.end {
		return 0, nil, io.EOF
	}
	if err := c.fill(recordHeader); err != nil {
		return 0, nil, err
	}
	size := int64(binary.BigEndian.Uint32(c.data[4:]))
	if size > maxRecord || size > c.end-c.at-recordHeader {
		return 0, nil, errDamaged
	}
	if err := c.fill(int(recordHeader + size)); err != nil {
		return 0, nil, err
	}
	record := c.data[:recordHeader+size]
	if binary.BigEndian.Uint32(record) != checksum(c.at, record[4:]) {
		return 0, nil, errDamaged
	}
	c.at += int64(len(record))
	c.data = c.data[len(record):]
	return recordKind(record[8]), record[recordHeader:], nil
}

// ready reports whether the next record is in the buffer.
func (c *cursor) ready() bool {
	return len(c.data) >= recordHeader && uint64(len(c.data)-recordHeader) >= uint64(binary.BigEndian.Uint32(c.data[4:]))
}

// fill sees to it that n octets are in the buffer.
func (c *cursor) fill(n int) error {
	if len(c.data) >= n {
		return nil
	}
	if int64(n) > c.end-c.at {
		return errDamaged
	}
	buffer := *c.buffer
	if n > len(buffer) {
		buffer = make([]byte, n)
	}
	have := copy(buffer, c.data)
	more := min(int64(len(buffer)-have), c.end-c.at-int64(have))
	if _, err := c.file.ReadAt(buffer[have:have+int(more)], c.at+int64(have)); err != nil {
		return fmt.Errorf("reading spool: %w", err)
	}
	*c.buffer, c.data = buffer, buffer[:have+int(more)]
	return nil
}

// decodeAs reads a message that a record holds.
func decodeAs[M wire.Message](body []byte) (m M, err error) {
	message, err := wire.Decode(body)
	if err != nil {
		return m, err
	}
	m, ok := message.(M)
	if !ok {
		return m, errDamaged
	}
	return m, nil
}
