package store

import (
	"errors"
	"hash"
	"io"
)

// copyHashing copies r to w, up to its end or an error, in constant memory. It
// returns how many octets were written, all of which are in sum.
func copyHashing(w, sum io.Writer, r io.Reader) (n int64, err error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	for err == nil {
		var octets []byte
		octets, err = copyPiece(w, r, *buffer)
		n += int64(len(octets))
		sum.Write(octets) //nolint:errcheck // a hash never fails
	}
	return n, unlessEOF(err)
}

// ahead is how many buffers may be on their way between reader and hash.
const ahead = 4

// copyHashingBeside is copyHashing with the hash on another core: it takes about
// as long as reading and writing.
func copyHashingBeside(w io.Writer, sum hash.Hash, r io.Reader) (n int64, err error) {
	type piece struct {
		buffer *[]byte
		octets []byte // in it
	}
	written, free := make(chan piece, ahead), make(chan *[]byte, ahead)
	for range ahead {
		free <- buffers.Get().(*[]byte)
	}
	go func() {
		defer close(free)
		for p := range written {
			sum.Write(p.octets)
			free <- p.buffer
		}
	}()
	for err == nil {
		p := piece{buffer: <-free}
		p.octets, err = copyPiece(w, r, *p.buffer)
		n += int64(len(p.octets))
		written <- p
	}
	close(written)
	for buffer := range free { // until all is hashed
		buffers.Put(buffer)
	}
	return n, unlessEOF(err)
}

// copyPiece copies as much as fits into buffer, and returns the octets that were
// written. At the end of r the error is io.EOF.
func copyPiece(w io.Writer, r io.Reader, buffer []byte) ([]byte, error) {
	n, err := fill(r, buffer)
	if n == 0 {
		return nil, err
	}
	if _, err := w.Write(buffer[:n]); err != nil {
		return nil, err
	}
	return buffer[:n], err
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
