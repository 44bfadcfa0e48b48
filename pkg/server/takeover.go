package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"
)

// takeOver makes the state of a reference server that used this directory ours,
// when there is one and none of ours. Its file is left as it is. Our state gets
// its name when it is complete.
func (s *Server) takeOver(stateDir string) error {
	file := filepath.Join(s.Dir, "state")
	if exists(stateDir) || !exists(file) {
		return nil
	}
	ref, err := s.readReference(file)
	if err != nil {
		return fmt.Errorf("taking over the reference's state %s: %w; put a whole one there, or move it away to begin with nothing", file, err)
	}
	events, err := schedule.Import(time.Now(), ref)
	if err != nil {
		return fmt.Errorf("taking over the reference's state %s: %w", file, err)
	}
	fresh := stateDir + ".new"
	if err := os.RemoveAll(fresh); err != nil { // of a start that was killed here
		return err
	}
	if err := writeEvents(s.Files, fresh, events); err != nil {
		return fmt.Errorf("taking over the reference's state: %w", err)
	}
	if err := s.Files.Rename(fresh, stateDir); err != nil {
		return err
	}
	if err := s.Files.SyncDir(filepath.Dir(stateDir)); err != nil {
		return err
	}
	s.Log.Info().Int("jobs", len(ref.Entries)).Str("file", file).Msg("took over the reference's state")
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// writeEvents makes a journal of the events, a few at a time.
func writeEvents(files disk.FS, dir string, events []schedule.Event) error {
	j, _, err := journal.Open(files, dir, schedule.New, journal.Options{})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(events, 1000) {
		records := make([][]byte, len(batch))
		for i, e := range batch {
			records[i] = schedule.Encode(e)
		}
		if err := j.Append(records...); err != nil {
			return errors.Join(err, j.Close())
		}
	}
	return j.Close()
}

// readReference reads a state file; its scripts go into the content store, which
// is the server's own only when a journal can tell which builds run.
func (s *Server) readReference(file string) (ref schedule.Reference, err error) {
	scripts, err := store.Open(s.Files, s.Dir, nil, s.Log)
	if err != nil {
		return ref, err
	}
	defer func() { err = errors.Join(err, scripts.Close()) }()
	in, err := os.Open(file)
	if err != nil {
		return ref, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return ref, err
	}
	err = wire.ReadState(in, info.Size(), func(item wire.StateItem) error {
		switch {
		case item.Schedule != nil:
			j, err := takeJob(scripts, item.Schedule.Job)
			ref.Entries = append(ref.Entries, schedule.Entry{
				Job: j, Plan: job.Plan{Period: item.Schedule.Period}, Next: item.Schedule.Next,
			})
			return err
		case item.Queue != nil:
			queue := schedule.ReferenceQueue{Platform: item.Queue.Platform}
			for _, queued := range item.Queue.Jobs {
				j, err := takeJob(scripts, queued)
				if err != nil {
					return err
				}
				queue.Jobs = append(queue.Jobs, j)
			}
			ref.Queues = append(ref.Queues, queue)
		case item.Dropped != nil:
			ref.Dropped = append(ref.Dropped, *item.Dropped)
		default:
			s.Log.Warn().Str("entry", item.Ignored).Msg("an entry of the reference's state is ignored, as it is there")
		}
		return nil
	})
	return ref, err
}

func takeJob(scripts *store.Store, j wire.AnyJob) (job.Job, error) {
	if j.OrbPackage != nil {
		return job.OrbBuild(j.Name, *j.OrbPackage), nil
	}
	script, err := scripts.Put(bytes.NewReader(j.Script.Data))
	return job.Job{Name: j.Name, Platform: j.Platform, Script: script}, err
}

// ExportState writes the state as a reference state file, for the way back.
// What the reference can not express (cron, intervals, templates of other
// kinds) becomes a job of the period never, or a script as of now; each such
// job is told of by warn. Call it before Serve.
func (s *Server) ExportState(warn func(name, what string)) ([]byte, error) {
	var items []wire.StateItem
	st := s.owner.state
	for _, p := range st.Platforms() {
		if p.Dropped {
			items = append(items, wire.StateItem{Dropped: &p.Name})
		}
	}
	for e := range st.Entries() {
		j, err := s.referenceJob(e.Job, e.Job.Platform, warn)
		if err != nil {
			return nil, err
		}
		next := e.Next
		if next.IsZero() {
			next = wire.Never
		}
		if e.Plan.Legacy() != e.Plan.Period || e.Plan.Cron != "" || e.Plan.Every != 0 {
			warn(e.Job.Name, "its plan ("+e.Plan.String()+") becomes the period never")
		}
		items = append(items, wire.StateItem{Schedule: &wire.ScheduleItem{Next: next, Period: e.Plan.Legacy(), Job: j}})
	}
	for _, p := range st.Platforms() {
		if p.Dropped { // the reference would hand the queue out all the same
			for run := range st.Queue(p.Name) {
				warn(run.Job.Name, "its run on the dropped platform "+p.Name+" is left out")
			}
			continue
		}
		queue := wire.PlatformQueue{Platform: p.Name}
		for run := range st.Queue(p.Name) {
			j, err := s.referenceJob(run.Job, p.Name, func(string, string) {})
			if err != nil {
				return nil, err
			}
			queue.Jobs = append(queue.Jobs, j)
		}
		items = append(items, wire.StateItem{Queue: &queue})
	}
	var out bytes.Buffer
	_, err := wire.EncodeState(items).WriteTo(&out)
	return out.Bytes(), err
}

// referenceJob is a job as a reference state holds it: templates of other kinds
// than orb-build are expanded.
func (s *Server) referenceJob(j job.Job, platform string, warn func(name, what string)) (wire.AnyJob, error) {
	_, orb := j.IsOrbBuild()
	if j.Template == "" || orb {
		return s.legacyJob(j, platform), nil
	}
	text, err := s.expand(j, platform)
	if err != nil {
		return wire.AnyJob{}, fmt.Errorf("job %q: %w", j.Name, err)
	}
	warn(j.Name, "its template "+j.Template+" becomes a script, as it is now")
	return wire.AnyJob{ScriptJob: wire.ScriptJob{Name: j.Name, Platform: platform, Script: wire.Blob{Data: text}}}, nil
}
