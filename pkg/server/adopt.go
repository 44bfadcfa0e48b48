package server

import (
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
)

// adopt takes over the builds that the last server left running. One whose record
// is complete ended, only the event is missing. One whose worker can come back
// goes on. Of any other the worker is lost, and its run is queued again, which
// counts as no try.
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
			h, err := s.resumeBuild(b)
			if err != nil {
				return fmt.Errorf("going on with build %v of job %q: %w", b.UUID, b.Run.Job.Name, err)
			}
			s.resumed = append(s.resumed, h)
			continue
		}
		if !whole {
			record, err = s.recordLost(b)
			if err != nil {
				return fmt.Errorf("ending build %v of job %q, left running by the last server: %w", b.UUID, b.Run.Job.Name, err)
			}
		}
		remotes := s.destinations(record.Result)
		e, err := s.owner.state.Finish(time.Now(), schedule.End{
			UUID: b.UUID, Result: record.Result, Remotes: remotes, Uncounted: !whole,
			Final: record.Result.Cause == job.Cancelled,
		}, s.Backoff)
		if err != nil {
			return err
		}
		if err := s.apply(e); err != nil {
			return err
		}
		s.Log.Warn().Str("job", b.Run.Job.Name).Stringer("build", b.UUID).Stringer("result", record.Result).
			Bool("again", e.Again).Msg("ended a build that was left running")
	}
	return nil
}

// recordLost stores what is there of a build whose worker can not come back.
func (s *Server) recordLost(b *schedule.Building) (job.Build, error) {
	draft, err := s.store.Resume(b.Run.Job.Name, b.UUID)
	if err != nil {
		return job.Build{}, err
	}
	record := job.Build{
		UUID: b.UUID, Run: b.Run.ID, Try: b.Try, Job: b.Run.Job.Name, Platform: b.Run.Platform,
		Script: b.Run.Job.Script, Worker: b.Worker, Started: b.Started, Finished: time.Now().UTC(),
		Result: job.Failure(job.WorkerLost, "worker lost: the server was restarted while the build ran"),
	}
	if b.Wish != nil {
		record.Result = *b.Wish
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

// apply journals events before Serve.
func (s *Server) apply(events ...schedule.Event) error {
	for _, e := range events {
		if err := s.owner.state.Advance(e); err != nil {
			return err
		}
		if err := s.owner.journal.Append(schedule.Encode(e)); err != nil {
			return err
		}
	}
	return nil
}
