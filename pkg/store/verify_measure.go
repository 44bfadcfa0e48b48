package store

import (
	"crypto/sha256"
	"path/filepath"

	"builder/pkg/console"
)

// measure tells the octets that are to be read, for who watches. It is a sum of
// sizes: what comes and goes meanwhile makes it a little wrong.
func (v *verifier) measure() error {
	total := int64(0)
	err := v.eachContent(func(file string, _ [sha256.Size]byte) { total += v.size(file) }, func(string) {})
	if err == nil {
		err = v.eachBuild(func(p place) {
			for _, name := range []string{resultFile, recordFile, console.TextFile, console.IndexFile} {
				total += v.size(filepath.Join(v.store.dir(p), name))
			}
		})
	}
	v.Progress.Total.Store(total)
	return err
}

// size is that of a file; of one that is not there, or can not be asked, none.
func (v *verifier) size(file string) int64 {
	info, err := v.store.fsys.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
