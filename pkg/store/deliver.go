package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"builder/pkg/job"
)

// Deliver receives the rest of a lacking content from r: all from offset on,
// which is where [Draft.Lacking] says, in constant memory. There is one delivery
// at a time. When it returns nil the content is here.
//
// When r fails or ends early (io.ErrUnexpectedEOF), or the disk does, what came is
// kept and Lacking tells where to go on. When r has more than the rest, nothing of
// it is kept. When the hash of the whole is another one, the error is an
// [ErrMismatch]: nothing of the content is kept, and when that was the second
// time, it is dropped. A content that is not lacking, another offset, and a
// second delivery at once are errors before r is read.
//
// What an earlier draft left is read again when the rest has come, which takes as
// long as that takes.
func (d *Draft) Deliver(c job.Content, offset int64, r io.Reader) error {
	p, err := d.beginDelivery(c, offset)
	if err == nil {
		var size int64
		size, err = p.receive(d.store.fsys, r)
		err = d.endDelivery(p, size, err)
	}
	if err != nil {
		return fmt.Errorf("receiving content %v: %w", c, err)
	}
	return nil
}

func (d *Draft) beginDelivery(c job.Content, offset int64) (*delivery, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := &d.offer
	p := o.known[c]
	switch {
	case d.ended:
		return nil, os.ErrClosed
	case p == nil:
		return nil, errors.New("it was not offered")
	case !p.lacks():
		return nil, errors.New("it is not wanted any more")
	case o.busy:
		return nil, errors.New("another delivery is under way")
	case offset != p.size:
		return nil, fmt.Errorf("it comes from octet %d on, expected %d", offset, p.size)
	}
	if err := d.syncs.begin(d.store); err != nil {
		return nil, err
	}
	if o.last != nil && o.last != p {
		// One file is open at most, whatever a worker begins and does not end.
		if err := o.last.close(); err != nil {
			return nil, err
		}
	}
	o.last, o.busy = p, true
	return p, nil
}

// endDelivery notes that there are size octets of p now, and what ended it.
func (d *Draft) endDelivery(p *delivery, size int64, err error) error {
	var here *incoming
	if err == nil {
		here = p.complete()
		d.syncs.add(here, p.old)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offer.busy = false
	p.here, p.size = here, size
	if errors.Is(err, ErrMismatch) {
		// What was there before this server may have suffered from a power cut: that
		// is not the worker's fault.
		if !p.old {
			p.mismatches++
		}
		p.old = false
		if p.mismatches == maxMismatches && p.dropped == "" {
			p.dropped = fmt.Sprintf("its content did not match its hash %d times", maxMismatches)
		}
	}
	if p.dropped != "" {
		p.discard(d.store)
		p.here = nil
	}
	return err
}
