package job

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"builder/pkg/der"

	"github.com/google/uuid"
)

// The encodings here are those of our own messages and records; docs/protocol.md
// has their ASN.1. Records may grow trailing fields: readers skip unknown ones.

// EncodeContent writes Content ::= SEQUENCE { sha256 UTF8String (SIZE (0|32)), size INTEGER }.
func EncodeContent(w *der.Writer, c Content) {
	w.Sequence(func() {
		if c.IsZero() {
			w.Octets(nil)
		} else {
			w.Octets(c.SHA256[:])
		}
		w.Int(c.Size)
	})
}

// DecodeContent is the inverse of EncodeContent.
func DecodeContent(r *der.Reader) Content {
	var c Content
	in := r.Enter(der.Sequence)
	hash := in.Octets()
	c.Size = in.Int()
	switch {
	case r.Err() != nil:
	case len(hash) == 0 && c.Size == 0:
	case len(hash) != sha256.Size || c.Size < 0:
		r.Fail(fmt.Errorf("content with a hash of %d octets and size %d", len(hash), c.Size))
	default:
		copy(c.SHA256[:], hash)
	}
	return c
}

// EncodeJob writes Job ::= SEQUENCE { name, platform UTF8String, script Content,
// template UTF8String, vars SEQUENCE OF SEQUENCE { name, value UTF8String },
// limits Limits, retries Retries, retention Retention, resources Resources }. Records of
// the first version end before limits, those of the second before retention.
func EncodeJob(w *der.Writer, j Job) {
	w.Sequence(func() {
		w.Text(j.Name)
		w.Text(j.Platform)
		EncodeContent(w, j.Script)
		w.Text(j.Template)
		w.Sequence(func() {
			for _, v := range j.Vars {
				w.Sequence(func() {
					w.Text(v.Name)
					w.Text(v.Value)
				})
			}
		})
		EncodeLimits(w, j.Limits)
		encodeRetries(w, j.Retries)
		EncodeRetention(w, j.Retention)
		EncodeResources(w, j.Resources)
	})
}

// maxVars is the largest number of variables of a job. One of six octets on the
// wire takes 32 in memory.
const maxVars = 1000

// DecodeJob is the inverse of EncodeJob.
func DecodeJob(r *der.Reader) Job {
	in := r.Enter(der.Sequence)
	j := Job{
		Name:     in.Text(),
		Platform: in.Text(),
		Script:   DecodeContent(&in),
		Template: in.Text(),
	}
	for vars := in.Enter(der.Sequence); vars.More(); {
		if len(j.Vars) == maxVars {
			r.Fail(fmt.Errorf("job with more than %d variables", maxVars))
			break
		}
		v := vars.Enter(der.Sequence)
		j.Vars = append(j.Vars, Var{Name: v.Text(), Value: v.Text()})
	}
	if in.More() {
		j.Limits = DecodeLimits(&in)
		j.Retries = decodeRetries(&in)
	}
	if in.More() {
		j.Retention = DecodeRetention(&in)
	}
	if in.More() {
		j.Resources = DecodeResources(&in)
	}
	return j
}

// EncodeLimits writes Limits ::= SEQUENCE { timeout, silence, grace, maxConsole,
// maxArtifacts INTEGER }; times in nanoseconds, 0 for what is not set.
func EncodeLimits(w *der.Writer, l Limits) {
	w.Sequence(func() {
		for _, n := range []int64{int64(l.Timeout), int64(l.Silence), int64(l.Grace), l.MaxConsole, l.MaxArtifacts} {
			w.Int(min(n, der.MaxInt))
		}
	})
}

// DecodeLimits is the inverse of EncodeLimits.
func DecodeLimits(r *der.Reader) Limits {
	in := r.Enter(der.Sequence)
	l := Limits{
		Timeout: time.Duration(in.Int()), Silence: time.Duration(in.Int()), Grace: time.Duration(in.Int()),
		MaxConsole: in.Int(), MaxArtifacts: in.Int(),
	}
	if err := l.check(); err != nil && r.Err() == nil {
		r.Fail(err)
	}
	return l
}

// EncodeResources writes Resources ::= SEQUENCE { cpus, memory, pids, disk INTEGER,
// noNetwork Flag }; 0 for what is not set.
func EncodeResources(w *der.Writer, res Resources) {
	w.Sequence(func() {
		for _, n := range []int64{res.CPUs, res.Memory, res.PIDs, res.Disk} {
			w.Int(min(n, der.MaxInt))
		}
		w.Bool(res.NoNetwork)
	})
}

// DecodeResources is the inverse of EncodeResources.
func DecodeResources(r *der.Reader) Resources {
	in := r.Enter(der.Sequence)
	res := Resources{CPUs: in.Int(), Memory: in.Int(), PIDs: in.Int(), Disk: in.Int(), NoNetwork: in.Bool()}
	if err := res.Check(); err != nil && r.Err() == nil {
		r.Fail(err)
	}
	return res
}

// encodeRetries writes Retries ::= SEQUENCE { tries INTEGER, failure, timeout Flag }.
func encodeRetries(w *der.Writer, r Retries) {
	w.Sequence(func() {
		w.Int(int64(r.Tries))
		w.Bool(r.OnFailure)
		w.Bool(r.OnTimeout)
	})
}

func decodeRetries(r *der.Reader) Retries {
	in := r.Enter(der.Sequence)
	n := in.Int()
	retries := Retries{Tries: int(max(-1, min(n, MaxTries+1))), OnFailure: in.Bool(), OnTimeout: in.Bool()}
	if err := retries.Check(); err != nil && r.Err() == nil {
		r.Fail(err)
	}
	return retries
}

// EncodePlan writes Plan ::= SEQUENCE { period INTEGER, every INTEGER, cron,
// zone UTF8String }; every is in nanoseconds.
func EncodePlan(w *der.Writer, p Plan) {
	w.Sequence(func() {
		w.Int(int64(p.Period))
		w.Int(min(int64(p.Every), der.MaxInt)) // 146 years
		w.Text(p.Cron)
		w.Text(p.Zone)
	})
}

// DecodePlan is the inverse of EncodePlan.
func DecodePlan(r *der.Reader) Plan {
	in := r.Enter(der.Sequence)
	p := Plan{
		Period: Period(in.Int()),
		Every:  time.Duration(in.Int()),
		Cron:   in.Text(),
		Zone:   in.Text(),
	}
	if r.Err() == nil && (p.Period < Hourly || p.Period > Never || p.Every < 0) {
		r.Fail(fmt.Errorf("plan with period %d, every %d", p.Period, p.Every))
	}
	return p
}

// EncodeResult writes Result ::= SEQUENCE { kind INTEGER, code INTEGER, text,
// cause UTF8String }.
func EncodeResult(w *der.Writer, res Result) {
	w.Sequence(func() {
		w.Int(int64(res.Kind))
		w.Int(res.Code)
		w.Text(res.Text)
		w.Text(string(res.Cause))
	})
}

// DecodeResult is the inverse of EncodeResult.
func DecodeResult(r *der.Reader) Result {
	in := r.Enter(der.Sequence)
	res := Result{
		Kind:  Kind(in.Int()),
		Code:  in.Int(),
		Text:  in.Text(),
		Cause: Cause(in.Text()),
	}
	if r.Err() == nil && (res.Kind < Exited || res.Kind > Failed) {
		r.Fail(fmt.Errorf("result of kind %d", res.Kind))
	}
	return res
}

// EncodeTime writes Instant ::= SEQUENCE { seconds INTEGER, nanoseconds INTEGER },
// since 1970 in UTC; empty for no time at all.
func EncodeTime(w *der.Writer, t time.Time) {
	w.Sequence(func() {
		if !t.IsZero() {
			w.Int(t.Unix())
			w.Int(int64(t.Nanosecond()))
		}
	})
}

// DecodeTime is the inverse of EncodeTime. The year lies between 0 and 9999.
func DecodeTime(r *der.Reader) time.Time {
	in := r.Enter(der.Sequence)
	if !in.More() {
		return time.Time{}
	}
	seconds, nanoseconds := in.Int(), in.Int()
	t := time.Unix(seconds, nanoseconds).UTC()
	if year := t.Year(); nanoseconds < 0 || nanoseconds > 999_999_999 || year < 0 || year > 9999 {
		r.Fail(fmt.Errorf("time of %d seconds and %d nanoseconds", seconds, nanoseconds))
		return time.Time{}
	}
	return t
}

// DecodeUUID reads the 16 octets of a uuid under UTF8String. Longer values are
// cut, as the reference does.
func DecodeUUID(r *der.Reader) uuid.UUID {
	var id uuid.UUID
	b := r.Octets()
	if r.Err() == nil && len(b) < len(id) {
		r.Fail(fmt.Errorf("uuid of %d octets", len(b)))
	}
	copy(id[:], b)
	return id
}

// EncodeRun writes Run ::= SEQUENCE { id INTEGER, job Job, platform UTF8String,
// asked Instant, tries INTEGER, after Instant }.
func EncodeRun(w *der.Writer, run Run) {
	w.Sequence(func() {
		w.Int(int64(run.ID))
		EncodeJob(w, run.Job)
		w.Text(run.Platform)
		EncodeTime(w, run.Asked)
		w.Int(int64(run.Tries))
		EncodeTime(w, run.After)
	})
}

// DecodeRun is the inverse of EncodeRun.
func DecodeRun(r *der.Reader) Run {
	in := r.Enter(der.Sequence)
	return Run{
		ID:       uint64(in.Int()),
		Job:      DecodeJob(&in),
		Platform: in.Text(),
		Asked:    DecodeTime(&in),
		Tries:    int(in.Int()),
		After:    DecodeTime(&in),
	}
}

// EncodeBuild writes Build ::= SEQUENCE { uuid UTF8String, run, try INTEGER, job,
// platform UTF8String, script Content, worker UTF8String, started, finished
// Instant, result Result, artifacts SEQUENCE OF SEQUENCE { path UTF8String,
// mode INTEGER, content Content, location UTF8String }, notes SEQUENCE OF
// UTF8String, place Place }.
// Records of the first version end before place.
func EncodeBuild(w *der.Writer, b Build) {
	w.Sequence(func() {
		w.Octets(b.UUID[:])
		w.Int(int64(b.Run))
		w.Int(int64(b.Try))
		w.Text(b.Job)
		w.Text(b.Platform)
		EncodeContent(w, b.Script)
		w.Text(b.Worker)
		EncodeTime(w, b.Started)
		EncodeTime(w, b.Finished)
		EncodeResult(w, b.Result)
		EncodeArtifacts(w, b.Artifacts)
		w.Sequence(func() {
			for _, note := range b.Notes {
				w.Text(note)
			}
		})
		EncodePlace(w, b.Place)
	})
}

// DecodeBuild is the inverse of EncodeBuild.
func DecodeBuild(r *der.Reader) Build {
	in := r.Enter(der.Sequence)
	b := Build{
		UUID:     DecodeUUID(&in),
		Run:      uint64(in.Int()),
		Try:      int(in.Int()),
		Job:      in.Text(),
		Platform: in.Text(),
		Script:   DecodeContent(&in),
		Worker:   in.Text(),
		Started:  DecodeTime(&in),
		Finished: DecodeTime(&in),
		Result:   DecodeResult(&in),
	}
	b.Artifacts = DecodeArtifacts(&in)
	for notes := in.Enter(der.Sequence); notes.More(); {
		b.Notes = append(b.Notes, notes.Text())
	}
	if in.More() {
		b.Place = DecodePlace(&in)
	}
	return b
}

// maxArtifactSize is what an artifact takes beside its path.
const maxArtifactSize = 64

// EncodePlace writes Place ::= SEQUENCE { kind, origin UTF8String, phases SEQUENCE OF
// SEQUENCE { name UTF8String, took INTEGER } }; took is in nanoseconds.
func EncodePlace(w *der.Writer, p Place) {
	w.Sequence(func() {
		w.Text(p.Kind)
		w.Text(p.Origin)
		w.Sequence(func() {
			for _, phase := range p.Phases {
				w.Sequence(func() {
					w.Text(phase.Name)
					w.Int(min(int64(phase.Took), der.MaxInt))
				})
			}
		})
	})
}

// maxPhases is the largest number of phases of a place.
const maxPhases = 100

// DecodePlace is the inverse of EncodePlace.
func DecodePlace(r *der.Reader) Place {
	in := r.Enter(der.Sequence)
	p := Place{Kind: in.Text(), Origin: in.Text()}
	for phases := in.Enter(der.Sequence); phases.More(); {
		if len(p.Phases) == maxPhases {
			r.Fail(fmt.Errorf("place with more than %d phases", maxPhases))
			break
		}
		phase := phases.Enter(der.Sequence)
		p.Phases = append(p.Phases, Phase{Name: phase.Text(), Took: time.Duration(phase.Int())})
	}
	return p
}

// EncodeArtifacts writes SEQUENCE OF SEQUENCE { path UTF8String, mode INTEGER,
// content Content, location UTF8String }. Those of the first version end before
// location.
func EncodeArtifacts(w *der.Writer, artifacts []Artifact) {
	size := 0
	for _, a := range artifacts {
		size += len(a.Path) + maxArtifactSize
	}
	w.Data = slices.Grow(w.Data, size) // a long list is not copied again and again
	w.Sequence(func() {
		for _, a := range artifacts {
			w.Sequence(func() {
				w.Text(a.Path)
				w.Int(int64(a.Mode & fs.ModePerm))
				EncodeContent(w, a.Content)
				w.Text(a.Location)
			})
		}
	})
}

// maxCounted is for how many artifacts memory is taken before they are read: an
// element of two octets, which is none, counts too.
const maxCounted = 10_000

// DecodeArtifacts is the inverse of EncodeArtifacts.
func DecodeArtifacts(r *der.Reader) []Artifact {
	in := r.Enter(der.Sequence)
	var artifacts []Artifact
	if n := in.Count(); n > 0 {
		artifacts = make([]Artifact, 0, min(n, maxCounted))
	}
	for in.More() {
		fields := in.Enter(der.Sequence)
		a := Artifact{Path: fields.Text(), Mode: decodeMode(&fields), Content: DecodeContent(&fields)}
		if fields.More() {
			a.Location = fields.Text()
		}
		artifacts = append(artifacts, a)
	}
	return artifacts
}

func decodeMode(r *der.Reader) fs.FileMode {
	mode := r.Int()
	if mode < 0 || mode > int64(fs.ModePerm) {
		r.Fail(fmt.Errorf("mode %#o", mode))
	}
	return fs.FileMode(mode)
}
