package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// describe answers with the record of a build that has ended.
func (c *clientSession) describe(ctx context.Context, m wire.Describe) error {
	id, err := c.findEnded(ctx, m.What, m.Platform)
	if err != nil {
		return err
	}
	build, done, err := c.outcome(ctx, target{BuildStatus: wire.BuildStatus{UUID: id}})
	if err != nil {
		return err
	}
	defer done()
	if m.Platform != "" && build.Platform != m.Platform {
		return fmt.Errorf("build %v is of platform %q, not of %q", id, build.Platform, m.Platform)
	}
	return c.send(wire.Described{Build: build})
}

// findEnded finds a job's latest build that succeeded, or a build by its uuid.
func (c *clientSession) findEnded(ctx context.Context, what, platform string) (uuid.UUID, error) {
	if what == "" {
		return uuid.Nil, errors.New("neither a job nor a build is named")
	}
	id, err := c.store.LatestSuccess(what, platform)
	if !errors.Is(err, store.ErrNotFound) {
		return id, err
	}
	if known, err := c.knows(ctx, what); err != nil {
		return uuid.Nil, err
	} else if known {
		on := ""
		if platform != "" {
			on = fmt.Sprintf(" on platform %q", platform)
		}
		return uuid.Nil, fmt.Errorf("job %q has no build that succeeded%s", what, on)
	}
	if running := c.building.begunWith(what); len(running) == 1 {
		return uuid.Nil, fmt.Errorf("build %v has not ended", running[0].UUID)
	}
	if id, err = c.store.Resolve(what); err != nil {
		return uuid.Nil, fmt.Errorf("no job is called %q, and no build: %w", what, err)
	}
	return id, nil
}

// knows reports whether there is a job of that name, or was one.
func (c *clientSession) knows(ctx context.Context, name string) (known bool, err error) {
	err = c.owner.look(ctx, func(st *schedule.State) { known = st.Entry(name) != nil })
	if known || err != nil {
		return known, err
	}
	builds, err := c.store.List(name, 1)
	return len(builds) > 0, err
}

// fetch answers with artifacts. A client that is slow to take them holds what it
// asked for and an open file, no record.
func (c *clientSession) fetch(ctx context.Context, m wire.Fetch) error {
	selected, err := c.choose(ctx, m)
	if err != nil {
		return err
	}
	for i, f := range m.Files {
		a := selected[i]
		var err error
		switch {
		case a == nil:
			err = fmt.Errorf("build %v has no such artifact", m.UUID)
		case f.Offset < 0 || f.Offset > a.Size:
			err = fmt.Errorf("it has %d octets: there is nothing from %d on", a.Size, f.Offset)
		default:
			err = c.sendArtifact(m.UUID, *a, f.Offset)
		}
		var broken sendError
		if errors.As(err, &broken) {
			return broken
		}
		if err == nil {
			continue
		}
		missing := wire.Missing{Reason: failureText(err)}
		if a != nil {
			missing.Content = a.Content
		}
		if err := c.send(missing); err != nil {
			return err
		}
	}
	return nil
}

// choose finds the artifacts. What that holds of the record it holds only as long
// as it takes.
func (c *clientSession) choose(ctx context.Context, m wire.Fetch) ([]*store.Selected, error) {
	size, err := c.store.RecordSize(m.UUID)
	if err != nil {
		return nil, err
	}
	done, err := c.replies.take(ctx, size*recorded)
	if err != nil {
		return nil, err
	}
	defer done()
	paths := make([]string, len(m.Files))
	for i, f := range m.Files {
		paths[i] = f.Path
	}
	return c.store.Select(m.UUID, paths)
}

// sendArtifact sends an artifact from an offset on. Damage that is found before
// the first octet has left is an error for the client; if it is found later, that
// ends the connection.
func (c *clientSession) sendArtifact(id uuid.UUID, a store.Selected, offset int64) error {
	in, err := a.Open(offset)
	if err != nil {
		c.Log.Error().Err(err).Stringer("build", id).Msg("an artifact can not be read")
		return err
	}
	var failed error
	err = c.send(wire.Content{Content: a.Content, Offset: offset, Data: wire.Blob{
		Size: a.Size - offset,
		Open: func() (io.ReadCloser, error) { return noted{in, &failed}, nil },
	}})
	in.Close()
	if failed != nil {
		c.Log.Error().Err(failed).Stringer("build", id).Msg("an artifact can not be read")
	}
	if errors.Is(err, wire.ErrUnsent) && failed != nil {
		return failed
	}
	return err
}

// noted keeps the error of reading, which can not be told from one of sending
// otherwise.
type noted struct {
	io.ReadCloser
	failed *error
}

// Read implements io.Reader.
func (n noted) Read(p []byte) (int, error) {
	count, err := n.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		*n.failed = err
	}
	return count, err
}

const (
	// findLimit is how many builds an answer to Find has at the most.
	findLimit = 1000
	// foundBuild is about what each costs, with the names of its artifacts.
	foundBuild = 8 << 10
)

// findBuilds answers with the builds that have an artifact.
func (c *clientSession) findBuilds(ctx context.Context, m wire.Find) error {
	limit := min(m.Limit, findLimit)
	if limit <= 0 {
		limit = 50
	}
	done, err := c.replies.take(ctx, limit*foundBuild)
	if err != nil {
		return err
	}
	defer done()
	builds, err := c.store.Find(m.SHA256, int(limit))
	if err != nil {
		return err
	}
	return c.send(wire.ListReply{Builds: builds})
}
