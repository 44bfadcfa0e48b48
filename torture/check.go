package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// ended is a build as the server shows it.
type ended struct {
	job.Build
	console []byte
}

// check looks whether everything is as it should be, and ends what runs.
func (r *round) check(ctx context.Context) error {
	straight := r.fleet.client(true)
	defer straight.Close() //nolint:errcheck // nothing was kept back
	if err := r.keeper.prune(ctx, straight, r.customer); err != nil {
		return err
	}
	r.keeper.verify(ctx, false)
	builds, err := r.fetch(ctx, straight)
	if err != nil {
		return err
	}
	if err := r.readLog(builds); err != nil {
		return err
	}
	for _, b := range builds {
		r.results[kindOf(b.Result)]++
		o, known := r.customer.order(b.Job)
		if !known {
			r.find("build %v is of job %q, which nobody wants", b.UUID, b.Job)
			continue
		}
		if err := r.checkBuild(b, o); err != nil {
			return err
		}
	}
	r.checkRuns(builds)
	r.checkKept(builds)
	r.checkPosted(builds)
	r.checkExported(ctx, straight, builds)
	if err := errors.Join(r.checkRemoved(), r.checkDownloads()); err != nil {
		return err
	}
	if err := r.checkWatchers(builds); err != nil {
		return err
	}
	if err := r.checkExports(ctx, builds); err != nil {
		return err
	}
	if err := r.checkRejected(builds); err != nil {
		return err
	}
	r.farewell()
	r.keeper.verify(ctx, false, "--repair")
	return r.checkData(builds)
}

// readLog finds out of which builds the server alone tells.
func (r *round) readLog(builds map[uuid.UUID]ended) error {
	// Of these, the journal alone knows: there was no room for a record.
	unrecorded, err := r.logged(r.fleet.server.log, "storing the failure of the build")
	if err != nil {
		return err
	}
	removed, err := r.logged(r.fleet.server.log, "build removed")
	if err != nil {
		return err
	}
	r.unrecorded, r.removed = map[string]string{}, map[uuid.UUID]string{}
	for id, l := range unrecorded {
		r.unrecorded[id] = l.Job
	}
	for name, l := range removed {
		id, err := uuid.Parse(name)
		if err != nil {
			return err
		}
		// It is logged before: what is there was kept, since the server was killed.
		if _, known := builds[id]; !known {
			r.removed[id] = l.Job
		}
	}
	return nil
}

// kindOf names a result in the table.
func kindOf(result job.Result) string {
	if result.Kind == job.Failed {
		return string(result.Cause)
	}
	return result.String()
}

// fetch asks for all builds, by way of a client that watches each.
func (r *round) fetch(ctx context.Context, straight *client.Client) (map[uuid.UUID]ended, error) {
	var list []job.Build
	err := insist(ctx, func() (err error) { list, err = straight.Builds(ctx, "", 1_000_000); return err })
	if err != nil {
		return nil, fmt.Errorf("listing builds: %w", err)
	}
	builds := map[uuid.UUID]ended{}
	for _, listed := range list {
		if _, twice := builds[listed.UUID]; twice {
			r.find("build %v is listed twice", listed.UUID)
		}
		b := ended{}
		err := straight.Watch(ctx, wire.Watch{What: listed.UUID.String()}, client.Viewer{
			Line: func(line job.Line) error {
				b.console = append(b.console, line.Data...)
				if line.Flags&job.Unended == 0 {
					b.console = append(b.console, '\n')
				}
				return nil
			},
			End: func(build job.Build, _ bool) error { b.Build = build; return nil },
		})
		if err != nil {
			r.find("watching build %v of %s: %v", listed.UUID, listed.Job, err)
			continue
		}
		if b.Result != listed.Result || b.Run != listed.Run || b.UUID != listed.UUID {
			r.find("build %v is listed as %+v, its record says %+v", listed.UUID, listed, b.Build)
		}
		builds[b.UUID] = b
	}
	return builds, nil
}

// checkRuns looks whether each run that was promised has ended, and each job's last
// one as it may.
func (r *round) checkRuns(builds map[uuid.UUID]ended) {
	runs, jobs := map[uint64][]ended{}, map[string][]ended{}
	for _, b := range slices.SortedFunc(maps.Values(builds), func(a, b ended) int { return a.Started.Compare(b.Started) }) {
		runs[b.Run] = append(runs[b.Run], b)
		jobs[b.Job] = append(jobs[b.Job], b)
	}
	unrecorded := slices.Collect(maps.Values(r.unrecorded))
	removed := map[string]int{} // of each job; each is of one run
	for _, name := range r.removed {
		removed[name]++
	}
	for run, name := range r.customer.promises() {
		if len(runs[run]) > 0 || r.customer.cancelled[name] || slices.Contains(unrecorded, name) {
			continue
		}
		if removed[name]--; removed[name] < 0 {
			r.find("run %d of %s was promised, and there is no build of it", run, name)
		}
	}
	for run, tries := range runs {
		for i, b := range tries {
			if b.Job != tries[0].Job || b.Try < i && i > 0 && b.Try < tries[i-1].Try {
				r.find("run %d: build %v is try %d of %s, after try %d of %s", run, b.UUID, b.Try, b.Job, tries[0].Try, tries[0].Job)
			}
		}
	}
	for _, o := range r.customer.orders {
		name := o.job.Name
		tries := jobs[name]
		switch {
		case len(tries) == 0 && !r.customer.cancelled[name]:
			r.find("%s has no build", name)
		case len(tries) == 0:
		default:
			last := tries[len(tries)-1]
			if o.job.Retries.Again(last.Result) && last.Try < o.job.Retries.Max() && !r.customer.cancelled[name] {
				r.find("%s was not tried again after build %v of run %d, try %d: %v", name, last.UUID, last.Run, last.Try, last.Result)
			}
		}
	}
}

// farewell ends all programs as service managers do.
func (r *round) farewell() {
	for _, w := range r.fleet.workers {
		if err := w.end(10 * time.Second); err != nil {
			r.find("%v, see %s", err, w.log)
		}
	}
	if err := r.fleet.server.end(5 * time.Second); err != nil {
		r.find("%v, see %s", err, r.fleet.server.log)
	}
	for _, left := range remains(r.bin, r.fleet.mark) {
		r.find("process %s is left", left)
	}
}

// shorten keeps findings readable.
func shorten(s string) string {
	const most = 300
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return strings.TrimSpace(s)
}
