// Package worker connects to a server, takes builds of its platform, runs each in
// a sandbox, and delivers what it printed and left. It decides nothing about
// schedules and retries.
//
// A build and a connection know nothing of each other:
//
//	holder ──▸ build: prepare ──▸ run ──▸ collect ──▸ end ──▸ gone when stored
//	   │                           │ writes             ▲ both in its spool
//	   │                           ▼                    │
//	   └─────▸ link: resume ──▸ courier of each build: lines, done, contents
//	             ▲                │
//	             └─── pause ──────┘  connection lost: the scripts run on
//
// The spool is one file for each build and not the two of package console: it also
// holds the build's beginning and end, one write keeps all three in order, and a
// trivial job costs one name on the disk.
//
// The invariant: what the server was not heard to have stored is in the spool. A
// worker that is killed goes on with it when it is started again.
package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"builder/pkg/job"
	"builder/pkg/remote"
	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
)

// Config is what a Worker needs to know.
type Config struct {
	Platform string
	Remote   string // host:port of the server
	Name     string // for people
	// Dir keeps the worker's identity and its spool. One process at a time uses it.
	Dir *Directory
	// Persistent makes it do one build after the other instead of just one.
	Persistent bool
	Slots      int      // builds at once, of a persistent worker; 0 means 1
	Protocol   int      // forces a protocol version; 0 tries ours, then the reference's
	Env        []string // KEY=value, passed on to scripts
	Sandbox    sandbox.Sandbox
	// Store takes contents of artifacts, if the server takes their location; nil
	// for none: all go to the server.
	Store *remote.Store
	// Resources bound every build, beside what its job says.
	Resources job.Resources
	// KeepFailed is how many places of failed builds are kept, the latest, for people
	// to enter. With 0, those that were kept before stay.
	KeepFailed int
	Program    string        // version, told to the server
	MaxDelay   time.Duration // longest pause between two attempts to connect; 0 means a minute
	MaxRetries int           // attempts in a row that may fail before ErrAway; 0 for any number
	KeepAlive  time.Duration // how often it says that it is there; 0 means 15 s
	Farewell   time.Duration // how long it delivers at most when it is told to end at once; 0 means a minute
	Log        zerolog.Logger
}

const (
	firstPause       = time.Second // before the second attempt to connect
	defaultMaxDelay  = time.Minute
	defaultKeepAlive = 15 * time.Second
	defaultFarewell  = time.Minute
	// lastDial is how long a worker that ends may take to greet the server.
	lastDial = 5 * time.Second
	// maxLater is the longest pause that a server may ask for.
	maxLater = time.Hour
)

var (
	// ErrAway says that the server could not be reached in Config.MaxRetries
	// attempts. What is not delivered is in the spool.
	ErrAway = errors.New("the server can not be reached")

	// errRefused says that the server does not want this worker now.
	errRefused = errors.New("refused by the server")
	// errFatal marks errors that trying again can not mend.
	errFatal = errors.New("giving up")
	// errRenewed ends a connection whose wishes are void.
	errRenewed = errors.New("no further build is taken")
)

// laterError is what the server says that is about to go.
type laterError struct{ wire.Later }

func (e *laterError) Error() string {
	return fmt.Sprintf("the server is about to end (%s) and asks to come again in %v", e.Reason, e.After)
}

// Run works until one build was delivered, or without end if the worker is
// persistent. What an earlier process has left in the directory is delivered
// first. When drain is done it takes no further build, delivers what it has and
// ends; when ctx is done it also stops what runs, delivers it as far as the server
// is there, and ends. Lost connections are made again, with growing pauses; an
// error is one that trying again can not mend, or ErrAway, or that the one build
// of a worker that is not persistent was not delivered.
func Run(ctx, drain context.Context, c Config) error {
	w := newHolder(c.withDefaults())
	ctx, kill := context.WithCancel(ctx)
	drain, stop := context.WithCancel(drain)
	defer context.AfterFunc(ctx, stop)()
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() {
		farewell := time.AfterFunc(w.Farewell, end)
		context.AfterFunc(over, func() { farewell.Stop() })
	})()
	err := w.recover(ctx, over)
	if err == nil {
		err = w.work(ctx, over, drain)
	}
	kill()
	stop()
	end()
	w.tasks.Wait()
	if w.Store != nil {
		w.Store.Close()
	}
	return errors.Join(err, w.close())
}

func (c Config) withDefaults() Config {
	if c.Slots < 1 || !c.Persistent {
		c.Slots = 1
	}
	if c.MaxDelay <= 0 {
		c.MaxDelay = defaultMaxDelay
	}
	if c.KeepAlive <= 0 {
		c.KeepAlive = defaultKeepAlive
	}
	if c.Farewell <= 0 {
		c.Farewell = defaultFarewell
	}
	return c
}

// work makes connections until there is nothing left to do.
func (w *holder) work(ctx, over, drain context.Context) error {
	pause, failures := min(firstPause, w.MaxDelay), 0
	for w.wished() || !w.finished(drain) {
		last := ctx.Err() != nil
		connected, err := w.connection(ctx, over, drain)
		if last && !connected || over.Err() != nil {
			return nil //nolint:nilerr // what is not delivered then is told by close
		}
		if last { // the server was there, and will be
			sleep(over, firstPause) //nolint:errcheck // the next attempt fails then, and is the last
			continue
		}
		var later *laterError
		switch {
		case errors.Is(err, errFatal) && ctx.Err() == nil:
			return err
		case err == nil, errors.Is(err, errRenewed), ctx.Err() != nil:
			continue
		case errors.As(err, &later): // no failure
		case connected && !errors.Is(err, errRefused):
			pause, failures = min(firstPause, w.MaxDelay), 0
		default:
			failures++
		}
		if _, running, _, _ := w.state(); w.MaxRetries > 0 && failures > w.MaxRetries && running == 0 {
			return fmt.Errorf("%w: %d attempts have failed, the last one: %w", ErrAway, failures, err)
		}
		wait := pause - rand.N(pause/3) //nolint:gosec // jitter
		if later != nil {
			wait = min(max(later.After, 0), maxLater)
		} else {
			pause = min(pause*3/2, w.MaxDelay)
		}
		if w.finished(drain) {
			continue
		}
		w.Log.Warn().Err(err).Dur("retry", wait).Msg("connection to the server ended")
		w.rest(ctx, drain, wait)
	}
	return nil
}

// rest waits before the next attempt, or until nothing is left to do.
func (w *holder) rest(ctx, drain context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	drained := drain.Done()
	for !w.finished(drain) {
		_, _, _, changed := w.state()
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-changed:
		case <-drained:
			drained = nil
		}
	}
}

// close closes the spools of what could not be delivered, and removes spares.
func (w *holder) close() error {
	var failures []error
	for _, b := range w.builds {
		w.Log.Warn().Stringer("build", b.id).Str("dir", w.Dir.Path).Msg("the build is not delivered: it is left in the directory for the next start")
		failures = append(failures, b.spool.close())
	}
	failures = append(failures, w.spares.close())
	switch {
	case w.Persistent:
	case len(w.builds) > 0:
		failures = append(failures, fmt.Errorf("%d builds are not delivered: they are left in %s for the next start", len(w.builds), w.Dir.Path))
	case w.refused > 0:
		failures = append(failures, fmt.Errorf("the server did not take the build: it is kept in %s", w.Dir.rejected()))
	}
	return errors.Join(failures...)
}

// dialer is how this worker greets the server.
func (w *holder) dialer() wire.Dialer {
	held, _, _, _ := w.state()
	return wire.Dialer{
		Role: wire.Worker,
		Introduce: wire.Introduce{
			Name: w.Name, ID: w.Dir.ID.String(), Program: w.Program, Capabilities: []string{wire.CapResume, wire.CapAlive, wire.CapDismissed, wire.CapResources},
			Beat: w.KeepAlive,
		},
		Force:    w.Protocol,
		KnownOwn: held > 0 || w.Dir.KnownOwn(w.Remote),
	}
}

// connection serves builds over one connection to the server, until it is lost,
// or nothing is left to do. It reports whether it got so far that builds could be
// handed out.
func (w *holder) connection(ctx, over, drain context.Context) (connected bool, err error) {
	conn, server, err := w.dial(ctx, over, drain)
	if err != nil {
		return false, err
	}
	if !server.Own() {
		return w.legacy(ctx, drain, conn)
	}
	if err := w.check(server); err != nil {
		conn.Close()
		return false, err
	}
	if err := w.Dir.RememberOwn(w.Remote); err != nil {
		w.Log.Warn().Err(err).Msg("remembering the server's version")
	}
	w.Log.Info().Str("peer", w.Remote).Int("version", server.Version).Msg("connected")
	l := w.newLink(over, conn, server)
	defer l.Close()
	if err := l.resume(); err != nil {
		return false, err
	}
	return true, l.serve(ctx, drain)
}

// dial connects to the server. A worker that is told to end is in a hurry: it
// connects to deliver, or to let the server know that what it was handed in the
// last moment was not received.
func (w *holder) dial(ctx, over, drain context.Context) (*wire.Conn, wire.Remote, error) {
	dialing, stop := context.WithCancel(over)
	defer stop()
	hurry := func() {
		held, _, _, _ := w.state()
		if held == 0 && !w.wished() {
			stop()
			return
		}
		if held == 0 || ctx.Err() != nil {
			timer := time.AfterFunc(lastDial, stop)
			context.AfterFunc(dialing, func() { timer.Stop() })
		}
	}
	defer context.AfterFunc(drain, hurry)()
	defer context.AfterFunc(ctx, hurry)()
	conn, server, err := w.dialer().Dial(dialing, w.Remote)
	if err != nil && drain.Err() != nil {
		w.wishAgain()
	}
	return conn, server, err
}

// check refuses a server of ours that is too old.
func (w *holder) check(server wire.Remote) error {
	for _, capability := range []string{wire.CapBuild, wire.CapResume} {
		if !server.Can(capability) {
			return fmt.Errorf("%w: the server is %s and lacks %q, which this worker, %s, needs: upgrade the server to this version or later",
				errFatal, server.Program, capability, w.Program)
		}
	}
	return nil
}
