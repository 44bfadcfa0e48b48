package client

import (
	"context"

	"builder/pkg/wire"
)

// Outbox tells what remotes do not have yet: how much of each, and the posts of one
// of them, or ("") of all, at most limit; 0 means what the server finds right.
func (c *Client) Outbox(ctx context.Context, remote string, limit int) (wire.OutboxReply, error) {
	return c.askOutbox(ctx, wire.Outbox{Remote: remote, Limit: int64(limit)})
}

// OutboxChange sends builds at once, also parked ones, or forgets them. The reply has
// how many posts that were, and how much is left of each remote.
func (c *Client) OutboxChange(ctx context.Context, m wire.OutboxChange) (wire.OutboxReply, error) {
	return c.askOutbox(ctx, m)
}

func (c *Client) askOutbox(ctx context.Context, m wire.Message) (wire.OutboxReply, error) {
	var reply wire.OutboxReply
	if err := c.need(ctx, wire.CapOutbox, "tell of its outbox, or change it"); err != nil {
		return reply, err
	}
	err := c.ask(ctx, m, func(m wire.Message) error {
		reply = m.(wire.OutboxReply)
		return nil
	}, wire.KindOutboxReply)
	return reply, err
}
