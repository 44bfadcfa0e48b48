package store

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"builder/pkg/disk"
	"builder/pkg/job"
)

// besideSize is from where on hashing has a goroutine of its own.
const besideSize = 1 << 20

// receiving is a content that comes in pieces, into a file of its own.
type receiving struct {
	content job.Content
	name    string // of the file
	size    int64  // octets received; behind them there may be any
	old     bool   // they are not all from this draft
	exists  bool   // the file may be there
	file    disk.File
	sum     hash.Hash // of the octets received; nil if the file has to be read for it
}

// receive appends r, which must be the rest, and returns how many octets there are
// now. After nil, all are, and the hash is right.
func (p *receiving) receive(fsys disk.FS, r io.Reader) (size int64, err error) {
	if err := p.open(fsys); err != nil {
		return p.size, err
	}
	rest := &exactly{r, p.content.Size - p.size}
	var n int64
	switch {
	case p.sum == nil:
		n, err = copyHashing(p.file, io.Discard, rest)
	case rest.left < besideSize:
		n, err = copyHashing(p.file, p.sum, rest)
	default:
		n, err = copyHashingBeside(p.file, p.sum, rest)
	}
	if err != nil {
		return p.size + n, err
	}
	if hasMore(r) {
		p.sum = nil // it is that of more than is kept
		return p.size, fmt.Errorf("there are more than the %d octets that it is to have", p.content.Size)
	}
	if err := p.verify(); err != nil {
		p.remove(fsys)
		return 0, err
	}
	return p.content.Size, nil
}

// open opens the file unless it is, at the place where the next octet goes.
func (p *receiving) open(fsys disk.FS) error {
	flag := os.O_RDWR | os.O_CREATE
	if p.size == 0 {
		flag |= os.O_TRUNC
		p.sum = sha256.New()
	}
	if p.file == nil {
		p.exists = true
		f, err := fsys.OpenFile(p.name, flag, 0o644)
		if err != nil {
			return err
		}
		p.file = f
		if p.size == 0 {
			return nil
		}
	}
	_, err := p.file.Seek(p.size, io.SeekStart)
	return err
}

// verify compares the hash of all octets with that of the content.
func (p *receiving) verify() error {
	if p.sum == nil {
		p.sum = sha256.New()
		whole := &exactly{io.NewSectionReader(p.file, 0, p.content.Size), p.content.Size}
		if _, err := copyHashing(io.Discard, p.sum, whole); err != nil {
			return fmt.Errorf("reading again what has come: %w", err)
		}
	}
	if got := contentOf(p.sum, p.content.Size); got != p.content {
		return fmt.Errorf("%w: it is %v", ErrMismatch, got)
	}
	return nil
}

// complete gives away the file, with all that is in it.
func (p *receiving) complete() *incoming {
	in := &incoming{content: p.content, name: p.name, file: p.file}
	p.file, p.sum = nil, nil
	return in
}

// close closes the file, which stays. Its octets have to be read again then: the
// system may lose some without telling who opens the file later.
func (p *receiving) close() error {
	p.sum = nil
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	p.file = nil
	return err
}

// remove removes the file. One that stays for any reason is written over, or
// removed when the draft ends.
func (p *receiving) remove(fsys disk.FS) {
	p.close() //nolint:errcheck // nobody wants it any more
	if p.exists {
		p.exists = fsys.Remove(p.name) != nil
	}
}

// hasMore reports whether r has an octet. One that fails has none.
func hasMore(r io.Reader) bool {
	_, err := io.ReadFull(r, make([]byte, 1))
	return err == nil
}
