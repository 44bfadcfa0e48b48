// Package worker connects to a server, waits for a build of its platform, runs
// it in a sandbox, and delivers what it printed and left. It decides nothing
// about schedules and retries.
//
//	dial ──▸ request ──▸ wait ──▸ run ──▸ deliver ──▸ exit, or request again
//	  ▲         │                  │         │
//	  └─ pause ─┴── connection lost: the server has given the build to
//	                another worker, so it is killed here
//
// The invariant: when a build's connection is gone, nothing of the build is
// alive here.
package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
)

// Config is what a Worker needs to know.
type Config struct {
	Platform string
	Remote   string // host:port of the server
	Name     string // for people
	// Dir keeps the worker's identity. One process at a time uses it.
	Dir *Directory
	// Persistent makes it do one build after the other instead of just one.
	Persistent bool
	Protocol   int      // forces a protocol version; 0 tries ours, then the reference's
	Env        []string // KEY=value, passed on to scripts
	Sandbox    sandbox.Sandbox
	Program    string // version, told to the server
	Log        zerolog.Logger
}

// Pauses between attempts to connect: the first, and the longest.
const (
	firstPause = time.Second
	mostPause  = time.Minute
)

// errRefused says that the server does not want this worker now.
var errRefused = errors.New("refused by the server")

// Run works until one build was delivered, or without end if the worker is
// persistent. A worker that is not ends with an error when its build was lost: it
// must not begin another one in the same throw-away place. When drain is done it takes no further build; when ctx is done it
// kills the one that runs. Lost connections are made again, with growing pauses;
// an error is one that trying again can not mend.
func Run(ctx, drain context.Context, c Config) error {
	pause := firstPause
	for {
		begun, delivered, err := c.connection(ctx, drain)
		switch {
		case ctx.Err() != nil || drain.Err() != nil:
			return nil //nolint:nilerr // the connection ended since it was to end
		case delivered > 0 && !c.Persistent:
			return nil
		case errors.Is(err, errFatal), begun > 0 && !c.Persistent:
			return err
		case err == nil:
			continue // a server of protocol 5 wants a new connection for each build
		}
		if delivered > 0 {
			pause = firstPause
		}
		wait := pause + rand.N(pause/2) //nolint:gosec // jitter
		c.Log.Warn().Err(err).Dur("retry", wait).Msg("connection to the server ended")
		select {
		case <-time.After(wait):
		case <-drain.Done():
			return nil
		case <-ctx.Done():
			return nil
		}
		pause = min(pause*3/2, mostPause)
	}
}

// errFatal marks errors that trying again can not mend.
var errFatal = errors.New("giving up")

// connection serves builds over one connection to the server, and returns how
// many were begun and how many of those delivered.
func (c *Config) connection(ctx, drain context.Context) (begun, delivered int, err error) {
	dialer := wire.Dialer{
		Role: wire.Worker,
		Introduce: wire.Introduce{
			Name: c.Name, ID: c.Dir.ID.String(), Program: c.Program, Capabilities: []string{wire.CapDismissed},
		},
		Force:    c.Protocol,
		KnownOwn: c.Dir.KnownOwn(c.Remote),
	}
	dialing, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(drain, stop)()
	conn, remote, err := dialer.Dial(dialing, c.Remote)
	if err != nil {
		return 0, 0, err
	}
	if remote.Own() {
		if !remote.Can(wire.CapBuild) {
			conn.Close()
			return 0, 0, fmt.Errorf("%w: the server %s can not use this worker: it lacks %q", errFatal, remote.Program, wire.CapBuild)
		}
		if err := c.Dir.RememberOwn(c.Remote); err != nil {
			c.Log.Warn().Err(err).Msg("remembering the server's version")
		}
	}
	c.Log.Info().Str("peer", c.Remote).Int("version", remote.Version).Msg("connected")
	l := newLink(ctx, conn, remote.Own(), c.Log)
	defer l.Close()
	for {
		s := &session{Config: c, link: l}
		err := s.build(drain)
		if s.begun {
			begun++
		}
		if drain.Err() != nil || err == nil && (!c.Persistent || !l.own) {
			err = errors.Join(err, l.settle())
		}
		if err != nil {
			return begun, delivered, err
		}
		delivered++
		if !c.Persistent || !l.own {
			return begun, delivered, nil
		}
	}
}
