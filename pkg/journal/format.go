package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	formatVersion = 1
	headerSize    = 48
	frameSize     = 20       // of a batch, before its body
	maxBody       = 16 << 20 // of a batch
)

var (
	segmentMagic  = [8]byte([]byte("BJOURNAL"))
	snapshotMagic = [8]byte([]byte("BSNAPSHT"))

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// badBatch says why octets are not a header, a batch or a record.
type badBatch string

func (b badBatch) Error() string { return string(b) }

// header is the header of a file.
type header struct {
	magic [8]byte
	salt  [16]byte
	seq   uint64
	end   int64
}

// newHeader gives h a salt.
func newHeader(h header) header {
	rand.Read(h.salt[:]) // never fails
	return h
}

// seed is the checksum of the salt, with which all others of the file begin.
func (h header) seed() uint32 { return crc32.Checksum(h.salt[:], castagnoli) }

func (h header) encode() []byte {
	p := make([]byte, 0, headerSize)
	p = append(p, h.magic[:]...)
	p = binary.BigEndian.AppendUint32(p, formatVersion)
	p = append(p, h.salt[:]...)
	p = binary.BigEndian.AppendUint64(p, h.seq)
	p = binary.BigEndian.AppendUint64(p, uint64(h.end))
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

func decodeHeader(p []byte) (header, error) {
	var h header
	if crc32.Checksum(p[:44], castagnoli) != binary.BigEndian.Uint32(p[44:]) {
		return h, badBatch("the checksum of the file's header is wrong")
	}
	if v := binary.BigEndian.Uint32(p[8:]); v != formatVersion {
		return h, fmt.Errorf("version %d of the format is not known to this program, only %d", v, formatVersion)
	}
	copy(h.magic[:], p)
	copy(h.salt[:], p[12:])
	h.seq = binary.BigEndian.Uint64(p[28:])
	if h.end = int64(binary.BigEndian.Uint64(p[36:])); h.end < 0 {
		return h, badBatch("an offset is out of range")
	}
	return h, nil
}

// batchWriter builds a batch.
type batchWriter struct {
	octets []byte
}

// newBatch begins a batch in the memory of buffer.
func newBatch(buffer []byte) batchWriter {
	return batchWriter{append(buffer[:0], make([]byte, frameSize)...)}
}

// size is that of the body.
func (b *batchWriter) size() int { return len(b.octets) - frameSize }

func (b *batchWriter) add(record []byte) error {
	if size := b.size() + 4 + len(record); size > maxBody {
		return fmt.Errorf("a batch of %d octets or more is over the limit of %d", size, maxBody)
	}
	b.octets = binary.BigEndian.AppendUint32(b.octets, uint32(len(record)))
	b.octets = append(b.octets, record...)
	return nil
}

// seal completes the batch and returns it.
func (b *batchWriter) seal(seed uint32, seq uint64) []byte {
	frame, body := b.octets[:frameSize], b.octets[frameSize:]
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	binary.BigEndian.PutUint64(frame[4:], seq)
	binary.BigEndian.PutUint32(frame[12:], crc32.Update(seed, castagnoli, body))
	binary.BigEndian.PutUint32(frame[16:], crc32.Update(seed, castagnoli, frame[:16]))
	return b.octets
}

// endMark is the last batch of a snapshot.
func endMark(seed uint32, count uint64) []byte {
	b := newBatch(nil)
	b.octets = append(b.octets, countBody(count)...)
	return b.seal(seed, 0)
}

func countBody(count uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, count)
}

// frame is what precedes the body of a batch.
type frame struct {
	length   uint32
	seq      uint64
	checksum uint32 // of the body
}

// decodeFrame reports false when the frame's own checksum is wrong: then not
// even the length of the batch is known.
func decodeFrame(p []byte, seed uint32) (frame, bool) {
	f := frame{
		length:   binary.BigEndian.Uint32(p),
		seq:      binary.BigEndian.Uint64(p[4:]),
		checksum: binary.BigEndian.Uint32(p[12:]),
	}
	return f, crc32.Update(seed, castagnoli, p[:16]) == binary.BigEndian.Uint32(p[16:])
}

// batch is one that was read.
type batch struct {
	seq  uint64
	body []byte // valid until the next is read
}

// each calls do with each record.
func (b batch) each(do func(record []byte) error) error {
	for rest := b.body; len(rest) > 0; {
		if len(rest) < 4 {
			return badBatch("a record is cut short")
		}
		length := binary.BigEndian.Uint32(rest)
		if rest = rest[4:]; uint64(length) > uint64(len(rest)) {
			return badBatch("a record is longer than its batch")
		}
		if err := do(rest[:length:length]); err != nil {
			return errors.Join(badBatch("a record does not fit the state"), err)
		}
		rest = rest[length:]
	}
	return nil
}
