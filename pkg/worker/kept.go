package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// kept is the place of a failed build that people may enter. A file holds its name:
//
//	kept/UUID    written when the place is kept, removed with it; the oldest go first
type kept struct {
	id    uuid.UUID
	place sandbox.Place
}

// keeps reports whether the place of a build that ended so is kept: whoever looks
// at it looks for what the job does wrong.
func (c *Config) keeps(r job.Result) bool {
	if c.KeepFailed == 0 || r.Success() {
		return false
	}
	return r.Kind != job.Failed || r.Cause != job.Cancelled && !r.WorkerEnded()
}

// announce makes a place one that can be entered, and says how in a note.
func (b *build) announce() (note string) {
	how, err := b.place.Keep()
	if err != nil {
		return fmt.Sprintf("place: not kept: %v", err)
	}
	return fmt.Sprintf("place: kept on worker %s until newer ones need the room; to enter it: %s", b.conf.Name, how)
}

// letGo keeps the place of a build that ended so, or destroys it.
func (w *holder) letGo(id uuid.UUID, place sandbox.Place, r job.Result) error {
	if !w.keeps(r) {
		begun := time.Now()
		err := w.destroy(place)
		w.Log.Debug().Stringer("build", id).Dur("dur", time.Since(begun)).Msg("place destroyed") // too late for the record
		return err
	}
	log := w.Log.With().Stringer("build", id).Logger()
	how, err := place.Keep()
	if err != nil {
		log.Warn().Err(err).Msg("the place of the failed build is not kept")
		return w.destroy(place)
	}
	err = renameio.WriteFile(filepath.Join(w.Dir.kept(), id.String()), []byte(place.Name()+"\n"), 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("keeping place: %w", err), w.destroy(place))
	}
	log.Info().Str("enter", how).Msg("the place of the failed build is kept")
	w.mu.Lock()
	w.kept = append(w.kept, kept{id, place})
	w.mu.Unlock()
	return w.pruneKept()
}

// pruneKept removes the oldest places but Config.KeepFailed.
func (w *holder) pruneKept() error {
	w.mu.Lock()
	n := max(0, len(w.kept)-w.KeepFailed)
	old := slices.Clone(w.kept[:n])
	w.kept = w.kept[n:]
	w.mu.Unlock()
	var failures []error
	for _, k := range old {
		w.Log.Info().Stringer("build", k.id).Msg("a kept place is removed: newer ones take its room")
		failures = append(failures, w.Dir.removeKept(k))
	}
	return errors.Join(failures...)
}

// attachKept attaches what an earlier process has kept, so that no Sweep takes it;
// the oldest is first.
func (d *Directory) attachKept(box sandbox.Sandbox, log zerolog.Logger) (all []kept, err error) {
	entries, err := os.ReadDir(d.kept())
	if err != nil {
		return nil, fmt.Errorf("reading kept places: %w", err)
	}
	var infos []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range infos {
		file := filepath.Join(d.kept(), info.Name())
		id, err := uuid.Parse(info.Name())
		if err != nil { // begun by somebody who was killed
			if err := os.Remove(file); err != nil {
				return nil, err
			}
			continue
		}
		name, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		place, err := box.Reattach(string(name[:max(0, len(name)-1)]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err // it would be swept
		}
		if err != nil {
			log.Warn().Err(err).Stringer("build", id).Msg("the kept place of a build is gone")
			if err := os.Remove(file); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, kept{id, place})
	}
	return all, nil
}

// removeKept destroys a place that was kept.
func (d *Directory) removeKept(k kept) error {
	return errors.Join(k.place.Destroy(), os.Remove(filepath.Join(d.kept(), k.id.String())))
}
