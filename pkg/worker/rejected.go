package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"builder/pkg/sandbox"
)

// maxRejected is how many builds are kept that the server did not take.
const maxRejected = 20

// reject keeps a build aside that the server does not take, or that can not be
// read any more, for people to look at:
//
//	rejected/UUID/spool      its file
//	rejected/UUID/artifacts/ its output directory
//	rejected/UUID/reason     what the server said
//
// The oldest go when there are more than maxRejected.
func (w *holder) reject(b *build, reason string) error {
	dir := filepath.Join(w.Dir.rejected(), b.id.String())
	b.log.Warn().Str("reason", reason).Str("dir", dir).Msg("the build is set aside")
	if _, err := os.Lstat(dir); err == nil { // it was rejected before
		if err := sandbox.Remove(dir); err != nil {
			return err
		}
	}
	failures := []error{os.Mkdir(dir, 0o700)}
	failures = append(failures, os.WriteFile(filepath.Join(dir, "reason"), []byte(reason+"\n"), 0o600))
	if err := os.Rename(b.spool.path, filepath.Join(dir, "spool")); !errors.Is(err, fs.ErrNotExist) {
		failures = append(failures, err)
	}
	failures = append(failures, b.spool.close(), removeTail(b.spool.path))
	if b.place != nil {
		failures = append(failures, b.place.Salvage(filepath.Join(dir, "artifacts")), w.destroy(b.place))
	}
	return errors.Join(append(failures, w.prune())...)
}

// prune removes the oldest. One at a time: a directory that is being removed looks
// like the newest.
func (w *holder) prune() error {
	w.pruning.Lock()
	defer w.pruning.Unlock()
	entries, err := os.ReadDir(w.Dir.rejected())
	if err != nil {
		return err
	}
	var infos []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var failures []error
	for _, info := range infos[min(len(infos), maxRejected):] {
		w.Log.Warn().Str("build", info.Name()).Msg("a rejected build is removed: newer ones take its place")
		failures = append(failures, sandbox.Remove(filepath.Join(w.Dir.rejected(), info.Name())))
	}
	return errors.Join(failures...)
}
