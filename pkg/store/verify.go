package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"builder/pkg/disk"
	"builder/pkg/job"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// VerifyOptions are what [Verify] may be told; the zero value is usable.
type VerifyOptions struct {
	// Schedule reads what the schedule knows; nil when there is none. It is called
	// when all that there is was looked at, and once more when scripts are missing.
	Schedule func() (Scheduled, error)
	// Repair moves damaged contents aside. No Store may be open on the directory.
	Repair bool
	// Report is told of each damage, one after the other; nil when nobody wants to know.
	Report func(Damage)
	// Elsewhere are the stores that records may name besides. Artifacts in one that is
	// not followed, or can not be read, are left out: see [UnreadError].
	Elsewhere Elsewhere
	// Progress is kept up to date meanwhile, unless it is nil.
	Progress *Progress
}

// Scheduled is what the schedule knows of what lies in the store.
type Scheduled struct {
	// Building says which builds have not ended: those need have no record.
	Building func(uuid.UUID) bool
	// Scripts are those of all jobs and runs.
	Scripts []JobScript
}

// JobScript is a script that is still to be run.
type JobScript struct {
	Job    string
	Script job.Content
}

// UnreadError is the error of [Verify] when all was looked at but artifacts in other
// stores, which could not be read.
type UnreadError struct{ Err error }

// Error implements error.
func (e *UnreadError) Error() string { return e.Err.Error() }

// Unwrap gives the first reason of each store.
func (e *UnreadError) Unwrap() error { return e.Err }

// Progress is how far [Verify] has come. It is safe for concurrent use.
type Progress struct {
	Done  atomic.Int64 // octets that were read
	Total atomic.Int64 // octets to be read, 0 when that is not known yet
}

// Verified is what [Verify] has checked.
type Verified struct {
	Builds   int64
	Contents int64
	Octets   int64 // that were read
	Damaged  int64 // how often Report was called
}

// Verify reads everything in the data directory dir and reports what is not what
// was written: of each build its record, its console and that its contents are
// there, of each content its hash, once, and results of the reference as far as
// they can be decoded. As many contents or builds are read at a time as there are
// processors. Memory is constant but for the names in one directory, and what is
// damaged.
//
// It needs no Store, and may run beside one: it changes nothing, unless it is to
// repair. What looks damaged is looked at again when everything else was, and when
// [VerifyOptions.Schedule] has said which builds have not ended: what was being
// written, and what was removed meanwhile, is no damage. An error says that not
// everything could be checked.
func Verify(ctx context.Context, fsys disk.FS, dir string, o VerifyOptions) (Verified, error) {
	watchedBy := o.Progress
	if watchedBy == nil {
		o.Progress = &Progress{}
	}
	// What keeps us from reading one file ends the reading of all.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	read := watched{FS: fsys, done: &o.Progress.Done, stopped: func() error { return context.Cause(ctx) }}
	v := &verifier{
		VerifyOptions: o, store: newStore(read, dir, zerolog.Nop()), stop: stop,
		damaged: map[[sha256.Size]byte]*damagedContent{}, unread: map[string]error{},
	}
	v.store.Follow(o.Elsewhere)
	v.check = func(a job.Artifact) error { return v.store.CheckArtifact(ctx, a) }
	err := v.verify(watchedBy != nil)
	if err == nil && len(v.unread) > 0 {
		err = &UnreadError{errors.Join(slices.Collect(maps.Values(v.unread))...)}
	}
	result := Verified{v.builds.Load(), v.contents.Load(), o.Progress.Done.Load(), v.reported}
	if err != nil {
		return result, fmt.Errorf("verifying %s: %w", dir, err)
	}
	return result, nil
}

type verifier struct {
	VerifyOptions
	store            *Store // without an index
	stop             context.CancelCauseFunc
	check            func(job.Artifact) error // of those that lie elsewhere
	elsewhere        sync.Map                 // contents there that were read, with what was found
	builds, contents atomic.Int64
	reported         int64

	mu       sync.Mutex
	damaged  map[[sha256.Size]byte]*damagedContent
	strays   []*damagedContent // what lies among the contents and is none
	suspects []place           // builds that did not look whole
	unread   map[string]error  // why other stores could not be read
}

func (v *verifier) verify(measured bool) error {
	if measured {
		if err := v.measure(); err != nil {
			return err
		}
	}
	for _, step := range []func() error{v.lookAtContents, v.lookAtBuilds, v.moveAside, v.reportBuilds, v.reportScripts} {
		if err := step(); err != nil {
			return err
		}
	}
	v.reportUnnamed()
	return nil
}

// report tells of a damage.
func (v *verifier) report(d Damage) {
	if known := v.damaged[d.Content.SHA256]; known != nil && !d.Content.IsZero() {
		known.named = true
	}
	v.reported++
	d.File, d.Aside = v.relative(d.File), v.relative(d.Aside)
	if v.Report != nil {
		v.Report(d)
	}
}

// relative is what a file is called from the data directory; what is none of its files,
// such as a content in another store, has its own name.
func (v *verifier) relative(file string) string {
	if name, err := filepath.Rel(v.store.root, file); file != "" && err == nil && filepath.IsLocal(name) {
		return name
	}
	return file
}

// atOnce runs what walk gives it, as many at a time as there are processors. The
// first error ends everything, and is returned.
func (v *verifier) atOnce(walk func(begin func(func() error)) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	err := walk(func(task func() error) {
		group.Go(func() error {
			err := task()
			if err != nil {
				v.stop(err)
			}
			return err
		})
	})
	if failed := group.Wait(); err == nil {
		err = failed
	}
	return err
}

// lookAtBuilds notes the builds that do not look whole.
func (v *verifier) lookAtBuilds() error {
	return v.atOnce(func(begin func(func() error)) error {
		return v.eachBuild(func(p place) {
			begin(func() error {
				v.builds.Add(1)
				found, err := v.lookAt(p)
				if len(found) > 0 {
					v.mu.Lock()
					v.suspects = append(v.suspects, p)
					v.mu.Unlock()
				}
				return err
			})
		})
	})
}

// reportBuilds looks again at the builds that did not look whole. Their records
// were complete before the schedule had their ends: so what is not whole now, and
// was not building when the schedule was asked, is damaged. Of one that is
// building anything may be there, and one in the log is made whole by the next start.
func (v *verifier) reportBuilds() error {
	logged, err := v.store.readAhead() // also when nothing is suspect: no server starts with a damaged one
	if err != nil {
		return err
	}
	if len(v.suspects) == 0 {
		return nil
	}
	scheduled, err := v.schedule()
	if err != nil {
		return err
	}
	slices.SortFunc(v.suspects, func(a, b place) int {
		return cmp.Or(strings.Compare(a.job, b.job), strings.Compare(a.id.String(), b.id.String()))
	})
	for _, p := range v.suspects {
		if p.origin == ours && scheduled.Building(p.id) {
			v.builds.Add(-1)
			continue
		}
		found, err := v.lookAt(p)
		if err != nil {
			return err
		}
		_, comes := logged[p.id]
		for _, d := range found {
			if !comes || d.Part != PartRecord && d.Part != PartConsole {
				v.report(d)
			}
		}
	}
	return nil
}

// reportScripts tells of the scripts of the schedule that are damaged.
func (v *verifier) reportScripts() error {
	before, err := v.schedule()
	if err != nil {
		return err
	}
	lacking := map[JobScript]*Damage{}
	for _, named := range before.Scripts {
		if d := v.lookAtContent(named.Script); d != nil {
			lacking[named] = d
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	// A script may go when nobody is to run it any more.
	now, err := v.schedule()
	if err != nil {
		return err
	}
	for _, named := range now.Scripts {
		if d := lacking[named]; d != nil {
			delete(lacking, named) // it may be named several times
			d.Job, d.Part = named.Job, PartScript
			v.report(*d)
		}
	}
	return nil
}

func (v *verifier) schedule() (Scheduled, error) {
	s := Scheduled{}
	var err error
	if v.Schedule != nil {
		s, err = v.Schedule()
	}
	if s.Building == nil {
		s.Building = func(uuid.UUID) bool { return false }
	}
	return s, err
}

// isObstacle tells an error that keeps us from looking from one that shows damage.
func isObstacle(err error) bool {
	for _, obstacle := range []error{
		fs.ErrPermission, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, errUnknownVersion, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, obstacle) {
			return true
		}
	}
	return false
}

// watched is a file system that counts what is read, and on which nothing can be
// opened or read any more when that is to stop.
type watched struct {
	disk.FS
	done    *atomic.Int64
	stopped func() error
}

// ReadDir implements disk.FS.
func (w watched) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := w.stopped(); err != nil {
		return nil, err
	}
	return w.FS.ReadDir(name)
}

// OpenFile implements disk.FS.
func (w watched) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := w.stopped(); err != nil {
		return nil, err
	}
	f, err := w.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return watchedFile{f, w}, nil
}

type watchedFile struct {
	disk.File
	by watched
}

// Read implements disk.File.
func (f watchedFile) Read(p []byte) (int, error) {
	if err := f.by.stopped(); err != nil {
		return 0, err
	}
	n, err := f.File.Read(p)
	f.by.done.Add(int64(n))
	return n, err
}

// ReadAt implements disk.File.
func (f watchedFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.by.stopped(); err != nil {
		return 0, err
	}
	n, err := f.File.ReadAt(p, offset)
	f.by.done.Add(int64(n))
	return n, err
}
