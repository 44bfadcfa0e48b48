// Package server is the one owner of the schedule: it accepts connections,
// hands runs to waiting workers, keeps what their builds print and produce,
// shows it to observers, and ends builds that take too long.
//
//	connection ──▸ session (one goroutine each)
//	                 client.go    one command after the other
//	                 worker.go    waits in the pool, then one build after the other (tied.go)
//	                 link.go      a worker that can come back: many builds at a time
//	                 deliver.go   contents of one build of such a worker
//	held.go        a build of such a worker: a goroutine of its own, whatever becomes of connections
//	owner.go       the one goroutine that changes the state: journal first, then tell
//	outbox.go      who is to have builds that have ended: frontends and hooks
//	building.go    the builds that run, for observers and for those who cancel
//	retention.go   the builds that go
//	reserve.go     whether there is room for another one
//
// The invariant: what anybody is told is on disk.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"builder/pkg/disk"
	"builder/pkg/hooks"
	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/remote"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/template"
	"builder/pkg/upload"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// Config is what a Server needs to know.
type Config struct {
	Dir       string // data directory
	ConfigDir string // templates and hooks
	// Uploads are the web frontends that are to have each build; no two of one name.
	Uploads []*upload.Frontend
	// HookTimeout is how long a hook may run; 0 means hooks.DefaultTimeout.
	HookTimeout time.Duration
	// Stores are those whose contents are taken and followed in place of having
	// them here; no other is. Close closes their connections.
	Stores remote.Stores
	// Timeout ends builds that run longer; 0 means DefaultTimeout.
	Timeout time.Duration
	// Grace is how long a worker may take to end a build that it was told to
	// stop, before the server ends it alone; 0 means DefaultGrace.
	Grace time.Duration
	// WorkerGrace is how long a worker that can come back may be away before its
	// builds are lost; 0 means DefaultWorkerGrace.
	WorkerGrace time.Duration
	// Stopped are the identities of workers that the last server took with it when it
	// was stopped: that their builds end so is no try, and tells nothing of the job. It
	// may be set up to Serve.
	Stopped []string
	// CollectTimeout is how long the artifacts of a build may take whose result was
	// decided here, and how long nothing may come of those of others; 0 means
	// DefaultCollectTimeout.
	CollectTimeout time.Duration
	// Heartbeat is how often peers of ours tell that they are there; three times as
	// long they may be silent. 0 means DefaultHeartbeat.
	Heartbeat time.Duration
	// Retention is what is kept of the builds of jobs that do not say it themselves;
	// the zero value is everything.
	Retention job.Retention
	// UploadedDays is how many days the artifacts of a build are kept after the web
	// frontend has them; 0 for as long as the build. It counts only with Upload.
	UploadedDays int64
	// Reserve is how many octets must be free on the disk of Dir for another build to
	// be handed out. 0 means the smaller of 1 GiB and a twentieth of the disk, less
	// that nothing has to be free.
	Reserve int64
	Backoff schedule.Backoff // zero means schedule.DefaultBackoff
	// KeepAlive tells when a peer that went without a word is given up; not
	// enabled means wire.KeepAlive.
	KeepAlive net.KeepAliveConfig
	// Sessions is how many connections are served at a time; 0 means as many as
	// the limit of descriptors lets be.
	Sessions int
	Program  string  // version, told to peers
	Files    disk.FS // nil means disk.OS
	Log      zerolog.Logger
}

// The defaults of Config.
const (
	DefaultTimeout        = time.Hour
	DefaultGrace          = 30 * time.Second
	DefaultWorkerGrace    = 5 * time.Minute
	DefaultCollectTimeout = 10 * time.Minute
	DefaultHeartbeat      = 15 * time.Second
)

// frameMemory bounds what large frames being received take together.
const frameMemory = 64 << 20

// Server is a server whose state is loaded. Make it with Open, run it once with
// Serve, then Close it.
type Server struct {
	Config
	owner     *owner
	pool      *pool
	store     *store.Store
	templates template.Dir
	building  *buildings
	crew      *crew
	resumed   []*held   // builds that were left running and go on, until Serve
	orphans   []*orphan // those that do not, and whose end the disk refused, until Serve
	remotes   []*recipient
	hooks     hooks.Dir
	budget    *wire.Budget
	crowd     crowd
	replies   replies
	unlock    func() error
	elsewhere elsewhere
	end       context.CancelFunc // of elsewhere
}

// Open locks the data directory, reads the state (that of the reference when
// there is none of ours), ends the builds that the last server left behind, and
// records those that it could not.
// A damaged state is an error that names file and offset; nothing is changed then.
func Open(c Config) (_ *Server, err error) {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Grace = cmp.Or(c.Grace, DefaultGrace)
	c.WorkerGrace = cmp.Or(c.WorkerGrace, DefaultWorkerGrace)
	c.CollectTimeout = cmp.Or(c.CollectTimeout, DefaultCollectTimeout)
	c.Heartbeat = cmp.Or(c.Heartbeat, DefaultHeartbeat)
	c.Backoff = cmp.Or(c.Backoff, schedule.DefaultBackoff)
	if c.Sessions == 0 {
		c.Sessions = maxSessions()
	}
	if !c.KeepAlive.Enable {
		c.KeepAlive = wire.KeepAlive
	}
	if c.Files == nil {
		c.Files = disk.OS{}
	}
	s := &Server{
		Config: c, pool: newPool(), templates: template.Dir(c.ConfigDir),
		building: newBuildings(), crew: newCrew(), budget: wire.NewBudget(frameMemory),
		replies: newReplies(),
	}
	over, end := context.WithCancel(context.Background())
	s.elsewhere, s.end = elsewhere{c.Stores, over}, end
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.adopt(); err != nil {
		return nil, err
	}
	s.recordLeftovers()
	return s, nil
}

func (s *Server) open() error {
	own := filepath.Join(s.Dir, "v1")
	if err := disk.MkdirAll(s.Files, own, 0o755); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	unlock, err := disk.Lock(own)
	if err != nil {
		return err
	}
	s.unlock = unlock
	stateDir := filepath.Join(own, "state")
	if err := checkState(stateDir, filepath.Join(own, "builds")); err != nil {
		return err
	}
	if err := s.takeOver(stateDir); err != nil {
		return err
	}
	j, state, err := journal.Open(s.Files, stateDir, schedule.New, journal.Options{
		Cut: func(file string, offset, octets int64) {
			s.Log.Warn().Str("file", file).Int64("offset", offset).Int64("bytes", octets).
				Msg("cut a torn write off the journal; nothing in it was acknowledged, unless the file was cut or overwritten by something else")
		},
	})
	if err != nil {
		return err
	}
	s.owner = &owner{
		log: s.Log, journal: j, state: state, pool: s.pool, requests: make(chan *request, turnSize),
		platforms: s.platformsOf, handedOut: s.building.begin, stopped: make(chan struct{}),
		reserve: &reserve{files: s.Files, dir: s.Dir, octets: s.Reserve, log: s.Log},
	}
	running := func(id uuid.UUID) bool { return state.Building(id) != nil }
	if s.store, err = store.Open(s.Files, s.Dir, running, s.Log); err != nil {
		return err
	}
	s.store.Follow(s.elsewhere)
	if err := s.makeRemotes(); err != nil {
		return err
	}
	return s.address()
}

// Close releases what Open took. Serve must have returned.
func (s *Server) Close() error {
	var errs []error
	s.end()
	s.Stores.Close()
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.owner != nil {
		errs = append(errs, s.owner.journal.Close())
	}
	if s.unlock != nil {
		errs = append(errs, s.unlock())
	}
	return errors.Join(errs...)
}

// Serve accepts connections until ctx is done, or the disk can not even be
// read. It closes the listener and waits for all that it started. Builds that
// run then are ended at the next Open.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, s.end)()
	s.fillOutbox() // before the state has its owner
	for _, h := range s.resumed {
		s.crew.begin(ctx, h)
	}
	for _, o := range s.orphans {
		s.crew.conducting.Go(func() { o.endLater(ctx) })
	}
	s.resumed, s.orphans = nil, nil
	group.Go(func() error { return s.owner.run(ctx) })
	group.Go(func() error { return s.accept(ctx, l) })
	for _, r := range s.remotes {
		group.Go(func() error { return r.outbox.Run(ctx) })
	}
	group.Go(func() error {
		s.keepPruning(ctx)
		return nil
	})
	err := group.Wait()
	s.crew.conducting.Wait()
	return err
}

// platformsOf tells on which known platforms a job without one of its own
// runs: those that have its template. It is called by the owner.
func (s *Server) platformsOf(j job.Job) []string {
	var known []string
	for _, p := range s.owner.state.Platforms() {
		known = append(known, p.Name)
	}
	return s.templates.Platforms(j.Template, known)
}

// checkState refuses to begin with an empty schedule where there was one: builds
// without a journal mean that it was lost.
func checkState(stateDir, builds string) error {
	journals, err := filepath.Glob(filepath.Join(stateDir, "journal-*"))
	if err != nil || len(journals) > 0 {
		return err
	}
	entries, err := os.ReadDir(builds)
	if errors.Is(err, fs.ErrNotExist) || len(entries) == 0 && err == nil {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s has no journal, but %s has builds: the schedule was lost; restore %s from a backup, or move %s away to begin with an empty one",
		stateDir, builds, stateDir, builds)
}
