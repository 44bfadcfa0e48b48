package upload

import (
	"io"
	"sync"
)

const (
	// pieceSize is how much goes through a pipe at once, pieces how many are on
	// their way.
	pieceSize = 128 << 10
	pieces    = 4
)

// pipe is an io.Pipe with room: a content is read, and its hash made, beside the
// sending of what was read before. One goroutine writes and one reads.
//
//	free ──▸ filling ──▸ full ──▸ reading ──▸ free
type pipe struct {
	free, full chan []byte // each has room for all pieces
	filling    []byte      // the writer's piece, nil if it has none
	reading    []byte      // the reader's, and
	rest       []byte      // what it has not read of that
	err        error       // of the writer; told when full is empty
	refused    chan struct{}
	refuse     func() // closes refused
}

func newPipe() *pipe {
	p := &pipe{free: make(chan []byte, pieces), full: make(chan []byte, pieces), refused: make(chan struct{})}
	p.refuse = sync.OnceFunc(func() { close(p.refused) })
	for range pieces {
		p.free <- nil // made when it is needed: most results are small
	}
	return p
}

// Write implements io.Writer. Its error is io.ErrClosedPipe when the reader is closed.
func (p *pipe) Write(octets []byte) (int, error) {
	written := 0
	for written < len(octets) {
		if p.filling == nil {
			select {
			case p.filling = <-p.free:
			case <-p.refused:
				return written, io.ErrClosedPipe
			}
			if p.filling == nil {
				p.filling = make([]byte, 0, pieceSize)
			}
		}
		n := min(cap(p.filling)-len(p.filling), len(octets)-written)
		p.filling = append(p.filling, octets[written:written+n]...)
		written += n
		if len(p.filling) == cap(p.filling) {
			p.flush()
		}
	}
	return written, nil
}

func (p *pipe) flush() {
	if p.filling != nil {
		p.full <- p.filling
		p.filling = nil
	}
}

// end ends what is read: with err, or where it is nil with io.EOF. Nothing is
// written after it.
func (p *pipe) end(err error) {
	if p.err = err; err == nil {
		p.flush()
		p.err = io.EOF
	}
	close(p.full)
}

// Read implements io.Reader.
func (p *pipe) Read(to []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.reading != nil {
			p.free <- p.reading[:0]
			p.reading = nil
		}
		var more bool
		select {
		case p.reading, more = <-p.full:
		case <-p.refused:
			return 0, io.ErrClosedPipe
		}
		if !more {
			return 0, p.err
		}
		p.rest = p.reading
	}
	n := copy(to, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Close implements io.Closer: nothing more is read.
func (p *pipe) Close() error {
	p.refuse()
	return nil
}
