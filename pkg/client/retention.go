package client

import (
	"context"

	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Pin keeps a build, named by its uuid or the beginning of it, whatever retention
// says; with unpin it takes that back. It returns the build's uuid.
func (c *Client) Pin(ctx context.Context, what string, unpin bool) (uuid.UUID, error) {
	if err := c.need(ctx, wire.CapRetention, "pin builds"); err != nil {
		return uuid.Nil, err
	}
	var pinned wire.Pinned
	err := c.ask(ctx, wire.Pin{What: what, Unpin: unpin}, func(m wire.Message) error {
		pinned = m.(wire.Pinned)
		return nil
	}, wire.KindPinned)
	return pinned.UUID, err
}

// Prune has the server remove now what retention says, of one job or ("") of all; with
// dry it only tells what that is. It returns when that is done.
func (c *Client) Prune(ctx context.Context, name string, dry bool) (wire.PruneReply, error) {
	if err := c.need(ctx, wire.CapRetention, "prune builds"); err != nil {
		return wire.PruneReply{}, err
	}
	var reply wire.PruneReply
	err := c.ask(ctx, wire.Prune{Job: name, Dry: dry}, func(m wire.Message) error {
		reply = m.(wire.PruneReply)
		return nil
	}, wire.KindPruneReply)
	return reply, err
}
