package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"builder/pkg/console"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// eachBuild calls found for each build of ours, also for those without a record,
// and for each result of the reference.
func (v *verifier) eachBuild(found func(place)) error {
	for _, o := range []origin{ours, theirs} {
		root := v.store.root
		if o == ours {
			root = v.store.builds()
		}
		jobs, err := v.store.fsys.ReadDir(root)
		if o == ours && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, entry := range jobs {
			if !entry.IsDir() {
				continue
			}
			builds, err := v.store.fsys.ReadDir(filepath.Join(root, entry.Name()))
			if errors.Is(err, fs.ErrNotExist) || o == theirs && errors.Is(err, fs.ErrPermission) {
				continue // it was removed; or is none of the reference's (lost+found)
			}
			if err != nil {
				return err
			}
			for _, build := range builds {
				if id, err := uuid.Parse(build.Name()); err == nil && id.String() == build.Name() && build.IsDir() {
					p := place{o, entry.Name(), id}
					if o == ours || v.exists(filepath.Join(v.store.dir(p), resultFile)) {
						found(p)
					}
				}
			}
		}
	}
	return nil
}

func (v *verifier) exists(name string) bool {
	_, err := v.store.fsys.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// lookAt tells what of a build is not as it was written. What goes while it is
// looked at was removed on purpose.
func (v *verifier) lookAt(p place) ([]Damage, error) {
	if p.origin == theirs {
		return v.lookAtResult(p)
	}
	dir := v.store.dir(p)
	rec, err := v.store.readRecord(dir)
	if isObstacle(err) {
		return nil, err
	}
	var found []Damage
	recorded := err == nil
	if recorded && (rec.build.UUID != p.id || directoryName(rec.build.Job) != p.job) {
		err = fmt.Errorf("it is that of build %v of job %q", rec.build.UUID, rec.build.Job)
	}
	if err != nil {
		found = append(found, damageOf(PartRecord, filepath.Join(dir, recordFile), err))
	}
	if recorded {
		if err := v.lookAtConsole(dir, rec); isObstacle(err) {
			return nil, err
		} else if err != nil {
			found = append(found, damageOf(PartConsole, filepath.Join(dir, console.TextFile), err))
		}
		found = append(found, v.lookAtNamed(dir, rec.build)...)
	}
	if len(found) == 0 {
		return nil, nil
	}
	for i := range found {
		found[i].Job, found[i].UUID = jobName(p.job), p.id
	}
	gone := !v.exists(dir) || recorded && !v.exists(filepath.Join(dir, recordFile))
	if gone {
		return nil, nil
	}
	return found, nil
}

// lookAtConsole reads a console, which must be as long as the record says. That is
// asked last: what can be told of the place comes first.
func (v *verifier) lookAtConsole(dir string, rec record) error {
	r, err := console.Open(v.store.fsys, dir)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read from
	for _, err := range r.Forward(0) {
		if err != nil {
			return err
		}
	}
	return rec.checkConsole(r)
}

// lookAtNamed looks at the script and the artifacts that a build names.
func (v *verifier) lookAtNamed(dir string, b job.Build) []Damage {
	var found []Damage
	if !b.Script.IsZero() {
		if d := v.lookAtContent(b.Script); d != nil {
			d.Part = PartScript
			found = append(found, *d)
		}
	}
	for _, a := range b.Artifacts {
		if d := v.lookAtArtifact(a); d != nil {
			d.Part, d.Path = PartArtifact, a.Path
			found = append(found, *d)
		}
	}
	// The marker is there before the first content goes: so it is looked for now.
	if len(found) > 0 && v.exists(filepath.Join(dir, prunedFile)) {
		return nil
	}
	return found
}

// lookAtArtifact looks at what an artifact names, wherever that lies.
func (v *verifier) lookAtArtifact(a job.Artifact) *Damage {
	if a.Location != "" {
		return v.lookElsewhere(a)
	}
	return v.lookAtContent(a.Content)
}

// lookElsewhere reads an artifact that lies in another store, each content once.
func (v *verifier) lookElsewhere(a job.Artifact) *Damage {
	type place struct {
		location string
		content  job.Content
	}
	read, _ := v.elsewhere.LoadOrStore(place{a.Location, a.Content}, sync.OnceValue(func() error { return v.check(a) }))
	err := read.(func() error)()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDamaged):
		d := damageOf(PartArtifact, a.Location, err)
		d.Content = a.Content
		return &d
	}
	v.stop(err)
	return nil
}

// lookAtResult decodes a result of the reference, which has no checksum.
func (v *verifier) lookAtResult(p place) ([]Damage, error) {
	r, err := v.store.openResult(p)
	if err == nil {
		defer r.file.Close()
		_, err = r.visit(p, wire.ExecVisitor{})
	}
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case isObstacle(err):
		return nil, err
	}
	d := damageOf(PartResult, filepath.Join(v.store.dir(p), resultFile), err)
	d.Job, d.UUID = p.job, p.id
	if r != nil {
		d.Offset = r.offset()
	}
	return []Damage{d}, nil
}
