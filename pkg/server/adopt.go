package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
)

// adopt takes over the builds that the last server left running. One whose record
// is complete ended, only the event is missing. One whose worker can come back
// goes on. Of any other the worker is lost, and its run is queued again, which
// counts as no try. What the disk refuses, since it is full, say, is tried again
// while the server serves: it shall start, and show what there is.
func (s *Server) adopt() error {
	var left []*schedule.Building
	for b := range s.owner.state.Buildings() {
		left = append(left, b)
	}
	for _, b := range left {
		record, whole, err := s.store.Recorded(b.Run.Job.Name, b.UUID)
		if err != nil {
			s.Log.Error().Err(err).Stringer("build", b.UUID).Msg("reading the record of a build that was left running")
		}
		if !whole && b.WorkerID != "" {
			s.building.begin(b)
			s.resumed = append(s.resumed, s.resumeBuild(b))
			continue
		}
		o := &orphan{Server: s, Building: b, record: record, recorded: whole, counts: whole}
		if err := o.end(b.Wish, s.decideNow); errors.Is(err, errUnreadable) {
			return err
		} else if err != nil {
			s.Log.Error().Err(err).Str("job", b.Run.Job.Name).Stringer("build", b.UUID).Msg("ending a build that was left running; this is tried again")
			s.building.begin(b)
			s.orphans = append(s.orphans, o)
		}
	}
	return nil
}

// orphan is a build that was left running and does not go on.
type orphan struct {
	*Server
	*schedule.Building
	record   job.Build
	recorded bool     // record is durable
	counts   bool     // the last server recorded it: the end is the build's own
	again    bool     // another try of the run follows
	remotes  []string // that are to have it
}

// end makes the end of the build durable. It may be called again after an error.
func (o *orphan) end(wish *job.Result, change func(decision) error) error {
	if !o.recorded {
		record, err := o.recordLost(o.Building, wish)
		if err != nil {
			return err
		}
		o.record, o.recorded = record, true
	}
	o.remotes = o.destinations(o.record.Result)
	err := change(func(st *schedule.State, now time.Time) ([]schedule.Event, error) {
		e, err := st.Finish(now, schedule.End{
			UUID: o.UUID, Result: o.record.Result, Remotes: o.remotes, Uncounted: !o.counts,
			Final: o.record.Result.Cause == job.Cancelled,
		}, o.Backoff)
		o.again = e.Again
		return []schedule.Event{e}, err
	})
	if err == nil {
		o.Log.Warn().Str("job", o.record.Job).Stringer("build", o.UUID).Stringer("result", o.record.Result).
			Bool("again", o.again).Msg("ended a build that was left running")
	}
	return err
}

// endLater ends the build when the disk lets it.
func (o *orphan) endLater(ctx context.Context) {
	b := o.newBuild(o.Building)
	close(b.begun) // there is no console to follow
	err := b.retry(ctx, "ending a build that was left running", func() error {
		return o.end(b.wish(), func(d decision) error { return o.owner.change(ctx, d) })
	})
	if err != nil {
		return // the server ends
	}
	o.post(o.UUID, o.record.Job, o.remotes)
	o.building.end(b.live, o.record, o.again)
}

// recordLost stores what is there of a build whose worker can not come back.
func (s *Server) recordLost(b *schedule.Building, wish *job.Result) (job.Build, error) {
	draft, err := s.store.Resume(b.Run.Job.Name, b.UUID)
	if err != nil {
		return job.Build{}, err
	}
	record := job.Build{
		UUID: b.UUID, Run: b.Run.ID, Try: b.Try, Job: b.Run.Job.Name, Platform: b.Run.Platform,
		Script: b.Script(), Worker: b.Worker, Started: b.Started, Finished: time.Now().UTC(),
		Result: job.Failure(job.WorkerLost, "worker lost: the server was restarted while the build ran"),
		Notes:  []string{unseen},
	}
	if wish != nil {
		record.Result = *wish
	}
	record, err = draft.Commit(record)
	return record, errors.Join(err, draft.Abandon())
}

// recordLeftovers makes records for builds that have none and that no event is to
// come for: a person may look for what they printed. Nothing is removed. One that
// can not be recorded now is found again at the next start.
func (s *Server) recordLeftovers() {
	for _, left := range s.store.Leftovers() {
		if s.owner.state.Building(left.UUID) != nil {
			continue // it goes on
		}
		log := s.Log.With().Str("job", left.Job).Stringer("build", left.UUID).Logger()
		draft, err := s.store.Resume(left.Job, left.UUID)
		if err == nil {
			_, err = draft.Commit(job.Build{
				UUID: left.UUID, Job: left.Job, Started: left.Written.UTC(), Finished: left.Written.UTC(),
				Result: job.Failure(job.ServerSide, "the server could not record this build when it ended; what it printed, as far as it is known, was found at a later start"),
			})
			err = errors.Join(err, draft.Abandon())
		}
		if err != nil {
			log.Error().Err(err).Msg("recording a build that had no record")
			continue
		}
		log.Warn().Msg("recorded a build that had no record")
	}
}

// errUnreadable: the state could not be read back from the disk.
var errUnreadable = errors.New("the state can not be read back")

// decideNow is owner.change before Serve. What the disk refuses has not happened,
// unless the error is errUnreadable.
func (s *Server) decideNow(decide decision) error {
	events, err := decide(s.owner.state, time.Now())
	if err != nil {
		return err
	}
	var records [][]byte
	for _, e := range events {
		if err := s.owner.state.Advance(e); err != nil {
			return err
		}
		records = append(records, schedule.Encode(e))
	}
	err = s.owner.commit(records)
	if err == nil {
		return nil
	}
	if fatal := s.owner.recover(err); fatal != nil {
		return fmt.Errorf("%w: %w", errUnreadable, fatal)
	}
	return err
}
