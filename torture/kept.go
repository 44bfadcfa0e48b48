package main

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// standing is what retention goes by: how many builds of the job are newer, and
// whether it is the last one, or the last success.
type standing struct {
	nth  int64
	last bool
}

// ranked is a build among those of its job.
type ranked struct {
	job.Build
	standing
}

// standings ranks the builds of each job.
func standings(builds []job.Build) []ranked {
	sorted := slices.SortedFunc(slices.Values(builds), func(a, b job.Build) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), b.Started.Compare(a.Started), slices.Compare(b.UUID[:], a.UUID[:]))
	})
	all := make([]ranked, len(sorted))
	success := false
	for i, b := range sorted {
		s := standing{}
		if i > 0 && sorted[i-1].Job == b.Job {
			s.nth = all[i-1].nth + 1
		} else {
			success = false
		}
		s.last = s.nth == 0 || b.Result.Success() && !success
		success = success || b.Result.Success()
		all[i] = ranked{b, s}
	}
	return all
}

// checkKept looks whether what went had to go, and what had to go went.
func (r *round) checkKept(builds map[uuid.UUID]ended) {
	var all []job.Build
	for _, b := range builds {
		all = append(all, b.Build)
	}
	const week = 7 * 24 * time.Hour
	for _, b := range standings(all) {
		uploaded, marked := r.keeper.has(b.Job, b.UUID, "uploaded")
		_, pinned := r.keeper.has(b.Job, b.UUID, "pinned")
		pruned, gone := r.keeper.has(b.Job, b.UUID, "pruned")
		aged := marked && time.Since(uploaded) > week
		since, pin := r.keeper.pinned[b.UUID]
		switch {
		case marked == b.Result.Infrastructure():
			r.find("build %v of %s, %q: it is marked as uploaded: %v", b.UUID, b.Job, b.Result, marked)
		case pin && !pinned, pin && pruned.After(since):
			r.find("build %v of %s was pinned at %v: pinned %v, pruned %v at %v", b.UUID, b.Job, since, pinned, gone, pruned)
		case gone && (b.last || !aged || len(b.Artifacts) == 0):
			r.find("build %v of %s was pruned: %+v, uploaded %v", b.UUID, b.Job, b.standing, uploaded)
		case !gone && aged && !b.last && !pinned && len(b.Artifacts) > 0:
			r.find("build %v of %s was uploaded at %v, and was not pruned: %+v", b.UUID, b.Job, uploaded, b.standing)
		case gone:
			r.results["(pruned)"]++
		}
	}
	for id := range r.keeper.pinned {
		if _, known := builds[id]; !known {
			r.find("build %v was pinned, and is gone", id)
		}
	}
	r.results["(removed)"] = len(r.removed)
}

// checkContents looks whether there is what builds and jobs name, and nothing else.
func (r *round) checkContents(own string, scripts []job.Content, builds map[uuid.UUID]ended) {
	named := map[job.Content]bool{}
	for _, c := range scripts {
		named[c] = true
	}
	for _, b := range builds {
		named[b.Script] = true
		if _, pruned := r.keeper.has(b.Job, b.UUID, "pruned"); pruned {
			continue
		}
		for _, a := range b.Artifacts {
			switch a.Location {
			case "":
				named[a.Content] = true
			case r.fleet.depot.url():
				if !r.fleet.depot.has(a.Content) {
					r.find("build %v: the depot has no %s (%v)", b.UUID, a.Path, a.Content)
				}
			default:
				r.find("build %v: %s lies in %q", b.UUID, a.Path, a.Location)
			}
		}
	}
	delete(named, job.Content{})
	there := map[string]bool{}
	for c := range named {
		name := filepath.Join(own, "content", c.String()[:2], c.String())
		there[name] = true
		if got, err := contentOf(name); err != nil || got != c {
			r.find("content %v: it is %v (%v)", c, got, err)
		}
	}
	for _, pattern := range []string{"content/*/*", "builds/*/*.removed", "damaged"} {
		found, err := filepath.Glob(filepath.Join(own, pattern))
		for _, name := range found {
			if !there[name] {
				r.find("%s is left, of no use to anybody", name)
			}
		}
		if err != nil {
			r.find("%v", err)
		}
	}
}

// checkPosted looks whether the frontends and the hook have what they are to have.
func (r *round) checkPosted(builds map[uuid.UUID]ended) {
	good, bad := r.fleet.good.builds(), r.fleet.bad.builds()
	for id, p := range good {
		_, removed := r.removed[id]
		if _, known := builds[id]; !known && !removed {
			r.find("build %v of %s was uploaded, and nobody knows it", id, p.Job.Name)
		}
	}
	for id := range builds {
		r.checkUploaded(builds[id], good[id])
	}
	ids := maps.Clone(r.removed)
	for id := range builds {
		ids[id] = builds[id].Job
	}
	for id := range ids {
		_, wanted := good[id]
		if bad[id].sum != good[id].sum {
			r.find("build %v: one frontend has %x, another one %x", id, good[id].sum, bad[id].sum)
		}
		if _, err := os.Lstat(filepath.Join(r.dir, "hooked", id.String())); (err == nil) != wanted {
			r.find("build %v: a frontend has it: %v; its hook ran: %v", id, wanted, err == nil)
		}
	}
}
