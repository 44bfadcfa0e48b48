package store

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"

	"builder/pkg/job"

	"golang.org/x/sync/errgroup"
)

// maxMismatches is how often a content may come with another hash before it is
// given up.
const maxMismatches = 2

// Wanted is a content that was offered and has not come, or not all of it.
type Wanted struct {
	Content job.Content
	Offset  int64 // how much of it is here: Deliver goes on there
}

// offer is what the worker offered, and how far each content has come. It is
// guarded by the draft.
type offer struct {
	artifacts []job.Artifact
	contents  []*delivery // of those, each once, in their order
	notes     notes
	known     map[job.Content]*delivery // contents, and perhaps one more: last
	found     map[string]int64          // lengths of files that an earlier draft left
	last      *delivery                 // what was delivered last: of no other is the file open
	busy      bool                      // it still is being delivered
}

// delivery is one content of an offer. It is lacking until it is here or dropped.
//
//	lacking --all of it, hash matches------------> here
//	 |  ^--'the hash does not match, once: from 0
//	 '--Drop, or the hash does not match twice----> dropped
type delivery struct {
	receiving
	here       *incoming // complete
	dropped    string    // why it will not come
	mismatches int
}

func (p *delivery) lacks() bool { return p.here == nil && p.dropped == "" }

// receives reports whether p is being delivered: its file is in use then.
func (o *offer) receives(p *delivery) bool { return o.busy && p == o.last }

// Offer says what artifacts the build has, by their hashes, in place of any offer
// before: what has come of their contents stays. An artifact that can not be kept
// (bad or repeated path, no hash, too many) is noted. A content that the store
// has is not wanted; of one that an earlier draft of the build had received a
// part, after a restart, only the rest is. One with a location that is followed
// lies there: that is for the caller to know. Any other location counts for nothing.
func (d *Draft) Offer(artifacts []job.Artifact) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return fmt.Errorf("taking the offer of build %v: %w", d.place.id, os.ErrClosed)
	}
	if err := d.offer.find(d); err != nil {
		return fmt.Errorf("taking the offer of build %v: %w", d.place.id, err)
	}
	o := &d.offer
	o.artifacts, o.contents, o.notes = make([]job.Artifact, 0, len(artifacts)), nil, notes{}
	paths, seen := make(map[string]bool, len(artifacts)), make(map[job.Content]bool, len(artifacts))
	for path := range d.paths {
		paths[path] = true
	}
	for _, a := range artifacts {
		if !claimPath(a.Path, paths, &o.notes) {
			continue
		}
		if a.Size < 0 || a.IsZero() {
			o.notes.add("not kept: artifact %q was offered without a hash", a.Path)
			continue
		}
		a.Mode &= fs.ModePerm
		if !d.store.follows(a.Location) {
			a.Location = ""
		}
		o.artifacts = append(o.artifacts, a)
		if a.Location == "" && !seen[a.Content] {
			seen[a.Content] = true
			o.contents = append(o.contents, o.delivery(a.Content))
		}
	}
	o.look(d)
	for _, p := range o.contents {
		if p.lacks() && p.name == "" {
			o.goOn(p, d.store.deliveryFile(d.place.id, p.content))
		}
	}
	for c, p := range o.known {
		if !seen[c] && !o.receives(p) {
			p.discard(d.store)
			delete(o.known, c)
		}
	}
	return nil
}

// find finds, once, what an earlier draft left.
func (o *offer) find(d *Draft) error {
	if o.known != nil {
		return nil
	}
	var found map[string]int64
	if d.resumed {
		var err error
		if found, err = d.store.delivered(d.place.id); err != nil {
			return err
		}
	}
	o.known, o.found = map[job.Content]*delivery{}, found
	return nil
}

// delivery returns the delivery of c, perhaps a new one.
func (o *offer) delivery(c job.Content) *delivery {
	p := o.known[c]
	if p == nil {
		p = &delivery{receiving: receiving{content: c}}
		o.known[c] = p
	}
	return p
}

// goOn has p received in the file name, behind what an earlier draft left there.
func (o *offer) goOn(p *delivery, name string) {
	p.name = name
	if size, ok := o.found[name]; ok {
		delete(o.found, name)
		p.exists = true
		if size <= p.content.Size {
			p.size, p.old = size, size > 0
		}
	}
}

// lookChunk is how many contents are looked for at a time.
const lookChunk = 500

// look looks which contents the store has, all processors at once: there may be
// many, and the end of the build waits for it.
func (o *offer) look(d *Draft) {
	s := d.store
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for some := range slices.Chunk(o.contents, lookChunk) {
		group.Go(func() error {
			for _, p := range some {
				if p.lacks() && !o.receives(p) && s.holdsContent(d.hold, p.content) {
					p.discard(s)
					p.here = &incoming{content: p.content}
				}
			}
			return nil
		})
	}
	group.Wait() //nolint:errcheck // there are none
}

// Lacking is what has to be delivered before Commit, each content once, in the
// order of the offer. One that is being delivered is among them as it was before.
func (d *Draft) Lacking() []Wanted {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wanted []Wanted
	for _, p := range d.offer.contents {
		if p.lacks() {
			wanted = append(wanted, Wanted{p.content, p.size})
		}
	}
	return wanted
}

func (o *offer) lacking() int {
	n := 0
	for _, p := range o.contents {
		if p.lacks() {
			n++
		}
	}
	return n
}

// Drop gives up a lacking content: its artifacts are not kept, and a note says
// why. For any other content it does nothing.
func (d *Draft) Drop(c job.Content, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.offer.known[c]
	if p == nil || !p.lacks() {
		return
	}
	p.dropped = reason
	if !d.offer.receives(p) {
		p.discard(d.store)
	}
}

// kept is what a record says: the artifacts that were added and those whose
// contents came, and all notes. Nothing is lacking.
func (o *offer) kept(added []job.Artifact, noted notes) ([]job.Artifact, notes) {
	artifacts := slices.Grow(slices.Clone(added), len(o.artifacts))
	all := notes{slices.Clone(noted.list), noted.more + o.notes.more}
	for _, note := range o.notes.list {
		all.add("%s", note)
	}
	for _, a := range o.artifacts {
		if p := o.known[a.Content]; a.Location == "" && p.dropped != "" {
			all.add("not kept: artifact %q: %s", a.Path, p.dropped)
		} else {
			artifacts = append(artifacts, a)
		}
	}
	return artifacts, all
}

// received are the complete contents of the draft.
func (d *Draft) received() []*incoming {
	all := slices.Clone(d.contents)
	for _, p := range d.offer.contents {
		if p.here != nil {
			all = append(all, p.here)
		}
	}
	return all
}

// discard removes what has come. The file of what is complete is not closed here:
// it may be about to be synced.
func (p *delivery) discard(s *Store) {
	if p.here == nil {
		p.remove(s.fsys)
		p.size = 0
	} else if p.here.name != "" {
		s.fsys.Remove(p.here.name) //nolint:errcheck // one that stays is removed when the draft ends
		p.here.name = ""
	}
}

// close closes what is open.
func (o *offer) close() error {
	if o.last == nil {
		return nil
	}
	return o.last.close()
}

// dropContents removes all contents of the draft that are not in their places, and
// what an earlier draft left. Nothing waits for a sync. What stays for any reason is
// removed at the next start.
func (d *Draft) dropContents() {
	for _, in := range d.contents {
		d.store.discard(in)
	}
	for _, p := range d.offer.known {
		p.discard(d.store)
	}
	if err := d.offer.find(d); err != nil { // there was no offer
		d.store.log.Warn().Err(err).Stringer("build", d.place.id).Msg("looking for contents that are of no use")
	}
	for name := range d.offer.found {
		d.store.fsys.Remove(name) //nolint:errcheck // see above
	}
}
