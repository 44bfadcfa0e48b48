package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// checkUploaded compares a build with what was uploaded of it.
func (r *round) checkUploaded(b ended, p posted) {
	switch {
	case b.Result.Infrastructure() != (p.UUID == [16]byte{}):
		r.find("build %v of %s, %q: a frontend has it: %v", b.UUID, b.Job, b.Result, p.UUID != [16]byte{})
	case p.UUID == [16]byte{}:
	case !sameLegacy(p.Result, b.Result), p.Job.Name != b.Job, !sameTime(p.Started, b.Started), !sameTime(p.Finished, b.Finished):
		r.find("build %v of %s, %q, from %v to %v, was uploaded as one of %s, %q, from %v to %v",
			b.UUID, b.Job, b.Result, b.Started, b.Finished, p.Job.Name, p.Result, p.Started, p.Finished)
	case !bytes.Equal(p.console, unbroken(b.console)):
		r.find("build %v: the console that was uploaded: %s", b.UUID, difference(p.console, unbroken(b.console)))
	default:
		r.checkUploadedFiles(b.UUID, p, b.Artifacts, true)
	}
}

// sameLegacy reports whether a frontend was told of that result.
func sameLegacy(told, result job.Result) bool {
	legacy := result.Legacy()
	return told.Kind == legacy.Kind && told.Code == legacy.Code
}

// sameTime compares what was uploaded, where times have three digits behind the second.
func sameTime(told, at time.Time) bool { return told.Equal(at.Truncate(time.Millisecond)) }

// unbroken is a console as a result file has it.
func unbroken(console []byte) []byte { return bytes.ReplaceAll(console, []byte("\n"), nil) }

// checkUploadedFiles compares the artifacts that were uploaded with those expected:
// there may be fewer unless all have to be there.
func (r *round) checkUploadedFiles(id uuid.UUID, p posted, expected []job.Artifact, all bool) {
	left := map[string]job.Content{}
	for _, a := range expected {
		left[a.Path] = a.Content
	}
	for _, a := range p.artifacts {
		if left[a.Path] != a.Content {
			r.find("build %v: %s was uploaded as %v, expected %v", id, a.Path, a.Content, left[a.Path])
		}
		delete(left, a.Path)
	}
	if len(left) > 0 && all {
		r.find("build %v: artifacts were not uploaded: %v", id, left)
	}
}

// checkRemoved looks at the builds that are gone: what a script ended was uploaded
// before, as its payload must have done it.
func (r *round) checkRemoved() error {
	scripts, err := r.logged(r.fleet.server.log, "build ended")
	if err != nil {
		return err
	}
	good := r.fleet.good.builds()
	for id, name := range r.removed {
		o, known := r.customer.order(name)
		p, uploaded := good[id]
		switch {
		case !known || o.job.Retention == job.Retention{}:
			r.find("build %v of %s was removed, which nobody wants", id, name)
		case !uploaded && (job.Result{Kind: job.Exited, Code: int64(o.payload.Code)}).String() == scripts[id.String()].Result:
			r.find("build %v of %s was removed (%s), and no frontend has it", id, name, scripts[id.String()].Result)
		case !uploaded:
			continue
		}
		whole := p.Result.Kind == job.Exited
		if text := wrongConsole(p.console, unbroken(o.payload.text(id.String())), whole, false); text != "" {
			r.find("build %v of %s, which was removed: console: %s", id, name, text)
		}
		expected, err := o.payload.artifacts()
		if err != nil {
			return err
		}
		r.checkUploadedFiles(id, p, expected, whole && !r.customer.cancelled[name]) // see undelivered
	}
	return nil
}

// checkExported compares what is uploaded with what can be fetched.
func (r *round) checkExported(ctx context.Context, straight *client.Client, builds map[uuid.UUID]ended) {
	for id, p := range r.fleet.good.builds() {
		b, there := builds[id]
		if !there {
			continue
		}
		_, pruned := r.keeper.has(b.Job, id, "pruned")
		sum := sha256.New()
		err := insist(ctx, func() error {
			sum.Reset()
			return straight.Export(ctx, id.String(), sum)
		})
		switch {
		case pruned != (err != nil):
			r.find("build %v: pruned %v, exporting it: %v", id, pruned, err)
		case !pruned && [sha256.Size]byte(sum.Sum(nil)) != p.sum:
			r.find("build %v is exported as %x, and was uploaded as %x", id, sum.Sum(nil), p.sum)
		}
	}
}
