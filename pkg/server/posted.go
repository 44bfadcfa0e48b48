package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"builder/pkg/schedule"
	"builder/pkg/upload"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

const (
	// postLimit is how many posts are told at a time.
	postLimit = 10_000
	// postChunk is how many are changed with one event each in a turn of the owner.
	postChunk = 32
)

// countPosts counts the outbox by remote.
func countPosts(st *schedule.State) map[string]*wire.RemoteStatus {
	counts := map[string]*wire.RemoteStatus{}
	for p := range st.Outbox() {
		count := counts[p.Remote]
		if count == nil {
			count = &wire.RemoteStatus{Name: p.Remote}
			counts[p.Remote] = count
		}
		if p.Parked != "" {
			count.Parked++
		} else {
			count.Waiting++
		}
	}
	return counts
}

// remoteStatus tells the counts: configured remotes as they were given, then others.
func (s *Server) remoteStatus(counts map[string]*wire.RemoteStatus) []wire.RemoteStatus {
	var all []wire.RemoteStatus
	for _, r := range s.remotes {
		count := wire.RemoteStatus{Name: r.name, Configured: true}
		if known := counts[r.name]; known != nil {
			count.Waiting, count.Parked = known.Waiting, known.Parked
			delete(counts, r.name)
		} else if scripts, err := s.hooks.Names(); r.name == hooksRemote && err == nil && len(scripts) == 0 {
			continue // who has no hooks need not know of them
		}
		all = append(all, count)
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, *counts[name])
	}
	return all
}

// outbox answers with what remotes do not have yet.
func (c *clientSession) outbox(ctx context.Context, m wire.Outbox) error {
	limit := min(m.Limit, postLimit)
	if limit <= 0 {
		limit = 1000
	}
	done, err := c.replies.take(ctx, limit*listed)
	if err != nil {
		return err
	}
	defer done()
	found, remotes, err := c.posted(ctx, "", m.Remote)
	if err != nil {
		return err
	}
	reply := wire.OutboxReply{Remotes: remotes}
	items := map[string]map[uuid.UUID]upload.Item{}
	for _, r := range c.remotes {
		items[r.name] = map[uuid.UUID]upload.Item{}
		for _, item := range r.outbox.Status() {
			items[r.name][item.UUID] = item
		}
	}
	for _, p := range found[:min(int(limit), len(found))] {
		item, waits := items[p.Remote][p.UUID]
		status := wire.PostStatus{UUID: p.UUID, Remote: p.Remote, Parked: strings.ToValidUTF8(p.Parked, "?"), Job: item.Job}
		if waits && p.Parked == "" {
			status.Sending, status.Tries, status.Next, status.Error = item.Sending, int64(item.Tries), item.Next, item.Err
		}
		if !waits {
			status.Job = c.jobOf(p.UUID)
		}
		reply.Posts = append(reply.Posts, status)
	}
	return c.send(reply)
}

// posted are the posts of a remote ("" for all) and a build, given by the beginning
// of its uuid ("" for all), and what there is in all.
func (c *clientSession) posted(ctx context.Context, what, remote string) ([]schedule.Post, []wire.RemoteStatus, error) {
	var found []schedule.Post
	var counts map[string]*wire.RemoteStatus
	what = strings.ToLower(what)
	err := c.owner.look(ctx, func(st *schedule.State) {
		counts = countPosts(st)
		for p := range st.Outbox() {
			if (remote == "" || p.Remote == remote) && (what == "" || strings.HasPrefix(p.UUID.String(), what)) {
				found = append(found, p)
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	remotes := c.remoteStatus(counts)
	return found, remotes, knownRemote(remotes, remote)
}

// knownRemote refuses what is a mistyped name.
func knownRemote(remotes []wire.RemoteStatus, name string) error {
	if name == "" {
		return nil
	}
	var names []string
	for _, r := range remotes {
		if r.Name == name {
			return nil
		}
		names = append(names, r.Name)
	}
	if names == nil {
		return fmt.Errorf("no remote is called %q: there are none", name)
	}
	return fmt.Errorf("no remote is called %q; there are: %s", name, strings.Join(names, ", "))
}

// outboxChange sends builds again, or forgets them.
func (c *clientSession) outboxChange(ctx context.Context, m wire.OutboxChange) error {
	found, _, err := c.posted(ctx, m.What, m.Remote)
	if err == nil {
		err = c.mayChange(m, found)
	}
	if err != nil {
		return err
	}
	if m.Action == wire.OutboxRetry {
		found = slices.DeleteFunc(found, func(p schedule.Post) bool { return c.remote(p.Remote) == nil })
		if len(found) == 0 && m.What != "" {
			return fmt.Errorf("build %s can not be sent: the server was not started with its remote (--upload)", m.What)
		}
	}
	for chunk := range slices.Chunk(found, postChunk) {
		if err := c.changePosts(ctx, m.Action, chunk); err != nil {
			return err
		}
	}
	_, remotes, err := c.posted(ctx, "", "")
	if err != nil {
		return err
	}
	return c.send(wire.OutboxReply{Remotes: remotes, Changed: int64(len(found))})
}

// mayChange refuses what can not be meant.
func (c *clientSession) mayChange(m wire.OutboxChange, found []schedule.Post) error {
	if m.Action == wire.OutboxRetry && m.Remote != "" && c.remote(m.Remote) == nil {
		return fmt.Errorf("nothing can be sent to %q: the server was not started with it (--upload)", m.Remote)
	}
	if m.What == "" {
		return nil
	}
	builds := map[uuid.UUID]bool{}
	for _, p := range found {
		builds[p.UUID] = true
	}
	switch {
	case len(builds) == 0:
		return fmt.Errorf("no build in the outbox begins with %q", m.What)
	case len(builds) > 1:
		return fmt.Errorf("%q begins the uuid of %d builds in the outbox: type more of it", m.What, len(builds))
	}
	return nil
}

// changePosts changes some posts at once, and then tells their queues. Those that
// have gone meanwhile are as they should be.
func (c *clientSession) changePosts(ctx context.Context, action wire.OutboxAction, chunk []schedule.Post) error {
	freed := map[schedule.Post]bool{}
	err := c.owner.change(ctx, func(st *schedule.State, _ time.Time) (events []schedule.Event, err error) {
		for _, p := range chunk {
			if action == wire.OutboxRetry {
				if e, ok := st.Free(p.UUID, p.Remote); ok {
					events, freed[p] = append(events, e), true
				}
			} else if e, err := st.DropPost(p.UUID, p.Remote); err == nil {
				events = append(events, e)
			}
		}
		return events, nil
	})
	if err != nil {
		return err
	}
	for _, p := range chunk {
		r := c.remote(p.Remote)
		switch {
		case r == nil:
		case action == wire.OutboxDrop:
			r.outbox.Drop(p.UUID)
		case freed[p]:
			r.outbox.Add(p.UUID, c.jobOf(p.UUID))
		default:
			r.outbox.Retry(p.UUID)
		}
	}
	return nil
}
