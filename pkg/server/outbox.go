package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"builder/pkg/hooks"
	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/upload"

	"github.com/google/uuid"
)

// hooksRemote is the name under which the hooks of --config-dir are a remote like the
// web frontends: what is to be done with a build survives a restart in the same way.
const hooksRemote = "upload-hooks"

// recipient is a remote: who is to have ended builds.
type recipient struct {
	name   string
	outbox *upload.Outbox
}

// makeRemotes makes the remotes of the configuration: each has a queue of its own, so
// that none delays another.
func (s *Server) makeRemotes() error {
	for _, frontend := range s.Uploads {
		if s.remote(frontend.Name()) != nil {
			return fmt.Errorf("two upload URLs are %s", frontend.Name())
		}
		s.addRemote(frontend.Name(), frontend.Sender(s.store.Export))
	}
	s.hooks = hooks.Dir{
		Path: filepath.Join(s.ConfigDir, hooksRemote), Cache: filepath.Join(s.Dir, "v1", "hooks"), Data: s.Dir,
		Timeout: s.HookTimeout,
	}
	if s.ConfigDir != "" {
		s.addRemote(hooksRemote, s.runHooks)
	}
	return nil
}

func (s *Server) addRemote(name string, send upload.Send) {
	outbox := upload.New(name, send, posts{s, name}, upload.Limits{}, s.Log)
	s.remotes = append(s.remotes, &recipient{name, outbox})
}

// remote is the configured one of that name, nil if there is none.
func (s *Server) remote(name string) *recipient {
	for _, r := range s.remotes {
		if r.name == name {
			return r
		}
	}
	return nil
}

// runHooks is a [upload.Send].
func (s *Server) runHooks(ctx context.Context, id uuid.UUID) (size int64, err error) {
	b, err := s.store.Build(id)
	if err != nil {
		return 0, &upload.BuildError{Text: err.Error()}
	}
	log := s.Log.With().Str("job", b.Job).Stringer("build", id).Logger()
	err = s.hooks.Run(ctx, hooks.FactsOf(b, s.store.ContentPath), log)
	var failed *hooks.FailedError
	if errors.As(err, &failed) {
		err = &upload.RefusedError{Text: failed.Text}
	}
	return 0, err
}

// destinations are the remotes that are to have a build. Ends that tell nothing of the
// job are for nobody, and where there are no hooks there is nothing to do for them.
func (s *Server) destinations(result job.Result) []string {
	if result.Infrastructure() {
		return nil
	}
	var names []string
	for _, r := range s.remotes {
		if r.name == hooksRemote {
			// What can not be read is no reason to leave the build out.
			if scripts, err := s.hooks.Names(); err == nil && len(scripts) == 0 {
				continue
			}
		}
		names = append(names, r.name)
	}
	return names
}

// post hands a build to the remotes that its end was journaled for.
func (s *Server) post(id uuid.UUID, jobName string, remotes []string) {
	for _, name := range remotes {
		s.remote(name).outbox.Add(id, jobName)
	}
}

// address gives the builds that a release without names of remotes left to the first
// frontend: that release knew one only.
func (s *Server) address() error {
	if len(s.Uploads) == 0 {
		return nil
	}
	first := s.Uploads[0].Name()
	if _, old := s.owner.state.Address(first); !old {
		return nil
	}
	err := s.decideNow(func(st *schedule.State, _ time.Time) ([]schedule.Event, error) {
		e, _ := st.Address(first)
		return []schedule.Event{e}, nil
	})
	if errors.Is(err, errUnreadable) {
		return err
	} else if err != nil {
		s.Log.Error().Err(err).Str("peer", first).Msg("giving it the builds of an earlier release; this is tried again at the next start")
	}
	return nil
}

// fillOutbox hands over what was not delivered before.
func (s *Server) fillOutbox() {
	lost := map[string]int{}
	for p := range s.owner.state.Outbox() {
		r := s.remote(p.Remote)
		switch {
		case r == nil:
			lost[p.Remote]++
		case p.Parked == "":
			r.outbox.Add(p.UUID, s.jobOf(p.UUID))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lost)) {
		s.Log.Warn().Str("peer", name).Int("builds", lost[name]).
			Msg("builds wait for a remote that no --upload names; they are kept: `builder-client outbox drop --all --to NAME` forgets them")
	}
}

// jobOf is the job of a build that has ended, "" if its record can not be read.
func (s *Server) jobOf(id uuid.UUID) string {
	build, err := s.store.Build(id)
	if err != nil {
		s.Log.Error().Err(err).Stringer("build", id).Msg("reading a build of the outbox")
	}
	return build.Job
}

// posts is the [upload.Journal] of a remote. What was dropped meanwhile is none of
// its business any more.
type posts struct {
	s      *Server
	remote string
}

// Delivered implements upload.Journal.
//
// The mark lets the artifacts go some days after a frontend has them; should the
// server be killed before it, they stay for as long as the build.
func (p posts) Delivered(ctx context.Context, id uuid.UUID) error {
	err := p.change(ctx, func(st *schedule.State) (schedule.Event, error) { return st.Deliver(id, p.remote) })
	if err != nil || p.remote == hooksRemote {
		return err
	}
	if err := p.s.store.MarkUploaded(id); err != nil {
		p.s.Log.Error().Err(err).Stringer("build", id).Msg("marking a build as uploaded")
	}
	return nil
}

// Parked implements upload.Journal.
func (p posts) Parked(ctx context.Context, id uuid.UUID, reason string) error {
	return p.change(ctx, func(st *schedule.State) (schedule.Event, error) {
		return st.Park(id, p.remote, cmp.Or(reason, "refused"))
	})
}

func (p posts) change(ctx context.Context, decide func(*schedule.State) (schedule.Event, error)) error {
	err := p.s.owner.change(ctx, func(st *schedule.State, _ time.Time) ([]schedule.Event, error) {
		e, err := decide(st)
		if errors.Is(err, schedule.ErrNotPosted) {
			return nil, nil
		}
		return []schedule.Event{e}, err
	})
	return err
}
