package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// The types here are what --json prints; docs/manual/builder-client.md has their
// fields, which stay. Times are RFC 3339 in UTC, null for none; durations are
// seconds. Names that are not UTF-8 have U+FFFD for what is not.
type (
	statusOut struct {
		Jobs      []jobOut      `json:"jobs"`
		Platforms []platformOut `json:"platforms"`
		Building  []buildingOut `json:"building"`
		Remotes   []remoteOut   `json:"remotes"`
		Paused    string        `json:"paused"`
	}
	jobOut struct {
		Name      string            `json:"name"`
		Platform  string            `json:"platform"`
		Template  string            `json:"template"`
		Vars      map[string]string `json:"vars"`
		Script    *contentOut       `json:"script"`
		Plan      planOut           `json:"plan"`
		Next      *time.Time        `json:"next"`
		Limits    limitsOut         `json:"limits"`
		Retries   int               `json:"retries"`
		RetryOn   []string          `json:"retry_on"`
		Keep      keepOut           `json:"keep"`
		Parked    bool              `json:"parked"`
		Resources resourcesOut      `json:"resources"`
	}
	resourcesOut struct {
		CPUs      float64 `json:"cpus"`
		Memory    int64   `json:"memory"`
		PIDs      int64   `json:"pids"`
		Disk      int64   `json:"disk"`
		NoNetwork bool    `json:"no_network"`
	}
	limitsOut struct {
		Timeout      float64 `json:"timeout"`
		Silence      float64 `json:"silence"`
		Grace        float64 `json:"grace"`
		MaxConsole   int64   `json:"max_console"`
		MaxArtifacts int64   `json:"max_artifacts"`
	}
	keepOut struct {
		Builds int64 `json:"builds"`
		Days   int64 `json:"days"`
		Bytes  int64 `json:"bytes"`
	}
	contentOut struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	}
	planOut struct {
		Period string  `json:"period"`
		Every  float64 `json:"every"`
		Cron   string  `json:"cron"`
		Zone   string  `json:"zone"`
	}
	platformOut struct {
		Name    string      `json:"name"`
		Dropped bool        `json:"dropped"`
		Queue   []runOut    `json:"queue"`
		Workers []workerOut `json:"workers"`
	}
	runOut struct {
		Run   uint64     `json:"run"`
		Job   string     `json:"job"`
		Asked *time.Time `json:"asked"`
		Tries int        `json:"tries"`
		After *time.Time `json:"after"`
	}
	workerOut struct {
		Name    string     `json:"name"`
		Address string     `json:"address"`
		Since   *time.Time `json:"since"`
		Build   *uuid.UUID `json:"build"`
	}
	buildingOut struct {
		attemptOut
		Away *time.Time `json:"away"`
	}
	attemptOut struct {
		UUID     uuid.UUID  `json:"uuid"`
		Job      string     `json:"job"`
		Platform string     `json:"platform"`
		Worker   string     `json:"worker"`
		Run      uint64     `json:"run"`
		Try      int        `json:"try"`
		Started  *time.Time `json:"started"`
	}
	buildOut struct {
		attemptOut
		Finished *time.Time  `json:"finished"`
		Duration float64     `json:"duration"`
		Success  bool        `json:"success"`
		Result   resultOut   `json:"result"`
		Script   *contentOut `json:"script"`
	}
	pruneOut struct {
		DryRun       bool        `json:"dry_run"`
		Builds       []prunedOut `json:"builds"`
		Freed        int64       `json:"freed"`
		Orphans      int64       `json:"orphans"`
		OrphanOctets int64       `json:"orphan_octets"`
		Damaged      int64       `json:"damaged"`
	}
	prunedOut struct {
		UUID          uuid.UUID  `json:"uuid"`
		Job           string     `json:"job"`
		Platform      string     `json:"platform"`
		Finished      *time.Time `json:"finished"`
		ArtifactsOnly bool       `json:"artifacts_only"`
		Beyond        string     `json:"beyond"`
		Octets        int64      `json:"octets"`
	}
	listedOut struct {
		buildOut
		Main     *artifactOut `json:"main"`
		Inputs   *string      `json:"inputs"`
		Pinned   bool         `json:"pinned"`
		Pruned   bool         `json:"pruned"`
		PrunedAt *time.Time   `json:"pruned_at"`
	}
	foundOut struct {
		buildOut
		Artifacts []artifactOut `json:"artifacts"`
	}
	artifactOut struct {
		Path string `json:"path"`
		contentOut
	}
	comparisonOut struct {
		A         buildOut        `json:"a"`
		B         buildOut        `json:"b"`
		Equal     bool            `json:"equal"`
		Alike     int             `json:"alike"`
		Artifacts []differenceOut `json:"artifacts"`
		Script    bool            `json:"same_script"`
		Platform  bool            `json:"same_platform"`
		Inputs    []inputOut      `json:"inputs"`
	}
	differenceOut struct {
		Path   string      `json:"path"`
		Change change      `json:"change"`
		A      *contentOut `json:"a"`
		B      *contentOut `json:"b"`
	}
	inputOut struct {
		Path     string    `json:"path"`
		Compared bool      `json:"compared"`
		Equal    bool      `json:"equal"`
		Changes  []lineOut `json:"changes"`
	}
	lineOut struct {
		Name   string  `json:"name"`
		Change change  `json:"change"`
		A      *string `json:"a"`
		B      *string `json:"b"`
	}
	// recordOut is all that is kept of a build.
	recordOut struct {
		buildOut
		Artifacts []artifactOut `json:"artifacts"`
		Notes     []string      `json:"notes"`
		Place     placeOut      `json:"place"`
	}
	placeOut struct {
		Kind   string     `json:"kind"`
		Origin string     `json:"origin"`
		Phases []phaseOut `json:"phases"`
	}
	phaseOut struct {
		Name string  `json:"name"`
		Took float64 `json:"took"`
	}
	resultOut struct {
		Kind  string `json:"kind"`
		Code  int64  `json:"code"`
		Cause string `json:"cause"`
		Text  string `json:"text"`
	}
)

func writeJSON(out io.Writer, value any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// each converts a list; none becomes an empty one.
func each[A, B any](list []A, convert func(A) B) []B {
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = convert(a)
	}
	return out
}

func statusJSON(s wire.StatusReply) statusOut {
	return statusOut{
		Jobs: each(s.Jobs, jobJSON), Platforms: each(s.Platforms, platformJSON), Building: each(s.Building, buildingJSON),
		Remotes: each(s.Remotes, remoteJSON), Paused: s.Paused,
	}
}

func jobJSON(j wire.JobStatus) jobOut {
	vars := map[string]string{}
	for _, v := range j.Job.Vars {
		vars[v.Name] = v.Value
	}
	return jobOut{
		Name: j.Job.Name, Platform: j.Job.Platform, Template: j.Job.Template, Vars: vars,
		Script: contentJSON(j.Job.Script), Next: instant(j.Next), Plan: planJSON(j.Plan),
		Limits: limitsJSON(j.Job.Limits), Retries: j.Job.Retries.Max() - 1, RetryOn: retryOn(j.Job.Retries), Keep: keepOut(j.Job.Retention), Parked: j.Parked,
		Resources: resourcesJSON(j.Job.Resources),
	}
}

func resourcesJSON(r job.Resources) resourcesOut {
	return resourcesOut{CPUs: float64(r.CPUs) / 1000, Memory: r.Memory, PIDs: r.PIDs, Disk: r.Disk, NoNetwork: r.NoNetwork}
}

func limitsJSON(l job.Limits) limitsOut {
	return limitsOut{
		Timeout: l.Timeout.Seconds(), Silence: l.Silence.Seconds(), Grace: l.Grace.Seconds(),
		MaxConsole: l.MaxConsole, MaxArtifacts: l.MaxArtifacts,
	}
}

// planJSON tells what counts of a plan, the rest is empty.
func planJSON(p job.Plan) planOut {
	out := planOut{Cron: p.Cron, Zone: p.Zone, Every: p.Every.Seconds()}
	if p.Cron == "" && p.Every == 0 {
		out.Period = p.Period.String()
	}
	return out
}

func contentJSON(c job.Content) *contentOut {
	if c.IsZero() {
		return nil
	}
	return &contentOut{SHA256: c.String(), Size: c.Size}
}

func platformJSON(p wire.PlatformStatus) platformOut {
	return platformOut{
		Name: p.Name, Dropped: p.Dropped,
		Queue: each(p.Queue, func(r job.Run) runOut {
			return runOut{Run: r.ID, Job: r.Job.Name, Asked: instant(r.Asked), Tries: r.Tries, After: instant(r.After)}
		}),
		Workers: each(p.Workers, func(w wire.WorkerStatus) workerOut {
			out := workerOut{Name: w.Name, Address: w.Address, Since: instant(w.Since)}
			if w.Build != uuid.Nil {
				out.Build = &w.Build
			}
			return out
		}),
	}
}

func buildingJSON(b wire.BuildStatus) buildingOut {
	return buildingOut{attemptOut: attemptOut{
		UUID: b.UUID, Job: b.Job, Platform: b.Platform, Worker: b.Worker, Run: b.Run, Try: b.Try, Started: instant(b.Started),
	}, Away: instant(b.Away)}
}

func buildJSON(b job.Build) buildOut {
	return buildOut{
		attemptOut: attemptOut{
			UUID: b.UUID, Job: b.Job, Platform: b.Platform, Worker: b.Worker, Run: b.Run, Try: b.Try, Started: instant(b.Started),
		},
		Finished: instant(b.Finished), Duration: b.Finished.Sub(b.Started).Seconds(), Success: b.Result.Success(),
		Result: resultOut{
			Kind: kindNames[b.Result.Kind], Code: b.Result.Code, Cause: string(b.Result.Cause), Text: b.Result.String(),
		},
		Script: contentJSON(b.Script),
	}
}

func listedJSON(b listed) listedOut {
	o := b.output
	out := listedOut{buildOut: buildJSON(b.Build), Pinned: b.mark.Pinned, Pruned: b.mark.Pruned, PrunedAt: instant(b.mark.At)}
	if !o.Main.IsZero() {
		out.Main = &artifactOut{o.Path, contentOut{o.Main.String(), o.Main.Size}}
	}
	if o.HasInputs() {
		inputs := hex.EncodeToString(o.Inputs[:])
		out.Inputs = &inputs
	}
	return out
}

// foundJSON is a build with those of its artifacts that were asked for.
func foundJSON(b job.Build) foundOut {
	return foundOut{buildOut: buildJSON(b), Artifacts: each(b.Artifacts, artifactJSON)}
}

func artifactJSON(a job.Artifact) artifactOut {
	return artifactOut{a.Path, contentOut{a.String(), a.Size}}
}

func comparisonJSON(r comparison) comparisonOut {
	return comparisonOut{
		A: buildJSON(r.a), B: buildJSON(r.b), Equal: len(r.artifacts) == 0, Alike: r.alike,
		Script: r.a.Script == r.b.Script, Platform: r.a.Platform == r.b.Platform,
		Artifacts: each(r.artifacts, func(d difference[job.Content]) differenceOut {
			return differenceOut{d.name, d.change, contentJSON(d.a), contentJSON(d.b)}
		}),
		Inputs: each(r.inputs, func(i inputComparison) inputOut {
			return inputOut{i.path, i.compared, i.compared && i.equal, each(i.lines, lineJSON)}
		}),
	}
}

func pruneJSON(r wire.PruneReply, dry bool) pruneOut {
	return pruneOut{
		DryRun: dry, Freed: r.Freed, Orphans: r.Orphans, OrphanOctets: r.OrphanOctets, Damaged: r.Damaged,
		Builds: each(r.Builds, func(b wire.PrunedBuild) prunedOut {
			return prunedOut{
				UUID: b.UUID, Job: b.Job, Platform: b.Platform, Finished: instant(b.Finished),
				ArtifactsOnly: b.ArtifactsOnly, Beyond: b.Bound, Octets: b.Octets,
			}
		}),
	}
}

func lineJSON(d difference[string]) lineOut {
	out := lineOut{Name: d.name, Change: d.change}
	if d.change != added {
		out.A = &d.a
	}
	if d.change != removed {
		out.B = &d.b
	}
	return out
}

func recordJSON(b job.Build) recordOut {
	return recordOut{
		buildOut: buildJSON(b), Notes: append([]string{}, b.Notes...), Place: placeJSON(b.Place),
		Artifacts: each(b.Artifacts, artifactJSON),
	}
}

func placeJSON(p job.Place) placeOut {
	return placeOut{Kind: p.Kind, Origin: p.Origin, Phases: each(p.Phases, func(f job.Phase) phaseOut {
		return phaseOut{Name: f.Name, Took: f.Took.Seconds()}
	})}
}

var kindNames = map[job.Kind]string{
	job.Exited: "exited", job.Signalled: "signalled", job.Stopped: "stopped", job.Failed: "failed",
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
