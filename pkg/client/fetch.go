package client

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Describe is the record of a build that has ended, artifacts included: of a job,
// and a platform unless that is empty, the latest that succeeded; or the one with
// that uuid, of which a unique beginning is enough.
func (c *Client) Describe(ctx context.Context, what, platform string) (job.Build, error) {
	if err := c.need(ctx, wire.CapFetch, "tell of artifacts"); err != nil {
		return job.Build{}, err
	}
	var build job.Build
	err := c.ask(ctx, wire.Describe{What: what, Platform: platform}, func(m wire.Message) error {
		build = m.(wire.Described).Build
		return nil
	}, wire.KindDescribed)
	if err == nil && build.UUID == uuid.Nil {
		err = errors.New("the server named no build")
	}
	return build, err
}

// Find lists the builds that have an artifact with that hash, the newest first;
// they come with those of their artifacts only.
func (c *Client) Find(ctx context.Context, sum [sha256.Size]byte, limit int) ([]job.Build, error) {
	if err := c.need(ctx, wire.CapFetch, "find builds by what they made"); err != nil {
		return nil, err
	}
	var builds []job.Build
	err := c.ask(ctx, wire.Find{SHA256: sum, Limit: int64(limit)}, func(m wire.Message) error {
		builds = m.(wire.ListReply).Builds
		return nil
	}, wire.KindListReply)
	return builds, err
}

// Partial is where an artifact goes that is being fetched.
type Partial interface {
	// Read gives what is there from an earlier time, from the beginning to io.EOF.
	// It is done with before anything is written.
	io.Reader
	// Write writes behind what is there.
	io.Writer
	// Restart throws away all that is there.
	Restart() error
}

// Receiver is given artifacts while they are fetched, one after the other.
type Receiver struct {
	// Begin opens where an artifact goes. An error leaves it out, and is given to
	// End.
	Begin func(job.Artifact) (Partial, error)
	// End tells what became of an artifact, once for each that Begin was called
	// for: nil, if all of it was written and has its hash; ErrStopped, if Fetch ends
	// before it does, which says why; else what is wrong with it. What there is of it
	// may be gone on with another time, unless the error is ErrMismatch. An error of
	// End ends the fetching. The Partial is nil if Begin failed.
	End func(job.Artifact, Partial, error) error
	// Lost tells that there is no connection, why, and when the next one is tried.
	// It may be nil.
	Lost func(err error, wait time.Duration) error
}

// The errors that a Receiver tells apart.
var (
	// ErrMismatch: what came is not what its hash says.
	ErrMismatch = errors.New("its octets are not those of its hash")
	// ErrStopped: the fetching ended before the artifact did.
	ErrStopped = errors.New("the transfer ended")
)

// Fetch gives artifacts of a build, which are as Describe told them, to r, in
// constant memory. No octet is written that the server sends for anything else;
// that an artifact is what its hash says is known at its End. One that the
// server has not got is told there too, and the others go on.
//
// A connection that breaks is made again, as in Watch, and the artifact that was
// on its way goes on where it was. An error is that of ctx, of the server, or of r.
func (c *Client) Fetch(ctx context.Context, build uuid.UUID, artifacts []job.Artifact, r Receiver) error {
	if err := c.need(ctx, wire.CapFetch, "send artifacts"); err != nil {
		return err
	}
	f := fetching{Client: c, receiver: r, build: build, rest: artifacts}
	err := f.run(ctx)
	if f.begun {
		err = errors.Join(err, f.end(ErrStopped))
	}
	return err
}

// fetching is a Fetch with its place.
type fetching struct {
	*Client
	receiver Receiver
	build    uuid.UUID
	rest     []job.Artifact // that are not here; the first is next, or under way
	asked    int            // how many of them the server is to answer for

	begun   bool      // the first was
	to      Partial   // where it goes,
	refused error     // or why it has no place
	sum     hash.Hash // of what is there of it
	have    int64     // octets
	earlier bool      // some are from another time, and may be of something else

	heard bool  // something came over this connection
	fatal error // what another connection does not mend
}

// run asks over one connection after the other.
func (f *fetching) run(ctx context.Context) error {
	for pause := f.pause; len(f.rest) > 0; pause = min(pause*3/2, longestPause) {
		begun := time.Now()
		f.heard = false
		err := f.request(ctx)
		switch {
		case f.fatal != nil:
			return f.fatal
		case err == nil:
			pause = f.pause
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isFinal(err):
			return err
		case f.heard, time.Since(begun) > longestPause:
			pause = f.pause
		}
		if err := rest(ctx, err, pause, f.receiver.Lost); err != nil {
			return err
		}
	}
	return nil
}

const (
	// smallArtifact is up to where several are asked for at once: each such
	// request costs the server a look at the build's record.
	smallArtifact = 1 << 20
	// askedPaths is how many octets of paths one request has, at about the most.
	askedPaths = 32 << 10
)

// request begins the artifact that is next, and asks for it and, if they are
// small, for some that follow.
func (f *fetching) request(ctx context.Context) error {
	if !f.begun {
		f.fatal = f.begin(false)
	}
	if f.fatal == nil && f.refused != nil {
		f.fatal = f.end(f.refused)
		return f.fatal
	}
	if f.fatal != nil {
		return f.fatal
	}
	if err := f.connect(ctx); err != nil {
		return err
	}
	if f.fatal = f.need(ctx, wire.CapFetch, "send artifacts"); f.fatal != nil {
		return f.fatal // another server than before
	}
	parts := f.parts()
	f.asked = len(parts)
	err := f.ask(ctx, wire.Fetch{UUID: f.build, Files: parts}, func(m wire.Message) error { return f.take(ctx, m) },
		wire.KindContent, wire.KindMissing)
	if err == nil && f.asked > 0 {
		f.fatal = fmt.Errorf("the server left out %d artifacts that it was asked for", f.asked)
	}
	return err
}

// parts are what is asked for at once. What is large comes alone, and so does what
// may have to be asked for again.
func (f *fetching) parts() []wire.FilePart {
	parts := []wire.FilePart{{Path: f.rest[0].Path, Offset: f.have}}
	if f.earlier || f.rest[0].Size >= smallArtifact {
		return parts
	}
	paths := len(f.rest[0].Path)
	for _, a := range f.rest[1:] {
		if paths += len(a.Path); a.Size >= smallArtifact || paths > askedPaths || len(parts) == wire.MaxFetch {
			break
		}
		parts = append(parts, wire.FilePart{Path: a.Path})
	}
	return parts
}

// begin opens where the next artifact goes, anew or with what is there of it.
func (f *fetching) begin(anew bool) error {
	f.begun, f.sum, f.have, f.earlier = true, sha256.New(), 0, false
	if f.to, f.refused = f.receiver.Begin(f.rest[0]); f.refused != nil {
		f.to = nil
		return nil //nolint:nilerr // its End is told
	}
	if anew {
		return f.to.Restart()
	}
	var err error
	if f.have, err = io.Copy(f.sum, f.to); err != nil {
		return err
	}
	if f.have > f.rest[0].Size {
		return f.restart()
	}
	if f.earlier = f.have > 0; f.earlier {
		// It may have taken longer than the server bears with one who asks nothing.
		return f.Close()
	}
	return nil
}

func (f *fetching) restart() error {
	f.sum.Reset()
	f.have, f.earlier = 0, false
	return f.to.Restart()
}

// end is the end of the first artifact.
func (f *fetching) end(err error) error {
	a := f.rest[0]
	f.begun, f.refused, f.rest = false, nil, f.rest[1:]
	return f.receiver.End(a, f.to, err)
}

// take takes the answer for one artifact.
func (f *fetching) take(ctx context.Context, m wire.Message) error {
	if f.asked == 0 {
		f.fatal = fmt.Errorf("%w: %v, nothing more was asked for", wire.ErrUnexpected, m.Kind())
		return f.fatal
	}
	if !f.begun {
		if f.fatal = f.begin(true); f.fatal != nil {
			return f.fatal
		}
	}
	switch m := m.(type) {
	case wire.Missing:
		f.fatal = f.end(cmp.Or(f.refused, fmt.Errorf("the server does not have it: %s", m.Reason)))
	case *wire.IncomingContent:
		if err := f.receive(ctx, m); err != nil {
			return err
		}
		f.fatal = f.check()
	}
	f.asked--
	return f.fatal
}

// receive takes the octets of the first artifact that are lacking; nobody keeps
// them when there is no place for it.
func (f *fetching) receive(ctx context.Context, m *wire.IncomingContent) error {
	a := f.rest[0]
	if m.Content != a.Content || m.Offset != f.have || m.Size != a.Size-f.have {
		f.fatal = fmt.Errorf("the server sent %d octets of content %v from %d on, of artifact %q %d were expected, of %v from %d on",
			m.Size, m.Content, m.Offset, a.Path, a.Size-f.have, a.Content, f.have)
		return f.fatal
	}
	conn := f.conn
	defer context.AfterFunc(ctx, func() { conn.Close() })() // a stream heeds no context
	_, err := io.Copy(arriving{f}, m)
	if f.fatal != nil {
		return f.fatal
	}
	return err
}

// arriving are the octets of the artifact that is under way.
type arriving struct{ *fetching }

// Write implements io.Writer.
func (f arriving) Write(p []byte) (int, error) {
	f.heard = true
	if f.refused != nil {
		return len(p), nil //nolint:nilerr // its End is told
	}
	f.sum.Write(p)
	f.have += int64(len(p))
	if _, err := f.to.Write(p); err != nil {
		f.fatal = err
		return 0, err
	}
	return len(p), nil
}

// check ends an artifact that is complete. When some of it is from another time
// that may be of something else: then all of it is asked for.
func (f *fetching) check() error {
	var sum [sha256.Size]byte
	f.sum.Sum(sum[:0])
	switch {
	case f.refused != nil:
		return f.end(f.refused)
	case sum == f.rest[0].SHA256:
		return f.end(nil)
	case f.earlier:
		return f.restart()
	}
	return f.end(ErrMismatch)
}
