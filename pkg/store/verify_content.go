package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/job"
)

// damagedContent is what is wrong with a content, whoever names it.
type damagedContent struct {
	file   string
	offset int64
	reason string
	aside  string // where it was moved
	named  bool   // it was reported of a build
}

// lookAtContents holds all contents to their hashes.
func (v *verifier) lookAtContents() error {
	return v.atOnce(func(begin func(func() error)) error {
		return v.eachContent(func(file string, sum [sha256.Size]byte) {
			begin(func() error { return v.hashContent(file, sum) })
		}, func(file string) {
			v.strays = append(v.strays, &damagedContent{file: file, offset: -1, reason: "it is no content: its name is not that of a hash in its directory"})
		})
	})
}

// eachContent calls found for each content, and stray for what is none.
func (v *verifier) eachContent(found func(file string, sum [sha256.Size]byte), stray func(file string)) error {
	root := v.store.contents
	prefixes, err := v.store.fsys.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		dir := filepath.Join(root, prefix.Name())
		if _, ok := hexadecimal(prefix.Name(), 1); !ok || !prefix.IsDir() {
			if prefix.Name() != "lost+found" { // it may be a file system of its own
				stray(dir)
			}
			continue
		}
		entries, err := v.store.fsys.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			file := filepath.Join(dir, entry.Name())
			sum, ok := hexadecimal(entry.Name(), sha256.Size)
			if !ok || entry.Name()[:2] != prefix.Name() || entry.Type()&^fs.ModeSymlink != 0 {
				stray(file)
				continue
			}
			found(file, [sha256.Size]byte(sum))
		}
	}
	return nil
}

// hexadecimal decodes the name of so many octets, in lower case.
func hexadecimal(name string, octets int) ([]byte, bool) {
	raw, err := hex.DecodeString(name)
	return raw, err == nil && len(raw) == octets && hex.EncodeToString(raw) == name
}

// hashContent notes a content that is damaged when it is read a second time, too.
// Contents never change while they have their names; one may go.
func (v *verifier) hashContent(file string, want [sha256.Size]byte) error {
	v.contents.Add(1)
	for again := false; ; again = true {
		got, size, err := v.hash(file)
		switch {
		case err == nil && got == want:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			v.contents.Add(-1)
			return nil
		case isObstacle(err):
			return err
		case !again:
			continue
		}
		d := &damagedContent{file: file, offset: -1, reason: fmt.Sprintf("its %d octets are not those of its hash", size)}
		if err != nil {
			d.offset, d.reason = size, err.Error()
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.damaged[want] = d
		return nil
	}
}

// hash reads a file and returns its hash, or how far it could be read.
func (v *verifier) hash(file string) (sum [sha256.Size]byte, size int64, err error) {
	f, err := v.store.fsys.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = copyHashing(io.Discard, h, f)
	h.Sum(sum[:0])
	return sum, size, err
}

// lookAtContent tells what is wrong with a content that something names, by what
// was found of its hash before; nil when it is whole. Who reports it fills in who
// that is. (An artifact that lies elsewhere than in this store would be checked
// where this is called.)
func (v *verifier) lookAtContent(c job.Content) *Damage {
	d := Damage{Content: c, File: v.store.contentFile(c), Offset: -1}
	if known := v.damaged[c.SHA256]; known != nil {
		d.Offset, d.Reason, d.Aside = known.offset, known.reason, known.aside
		return &d
	}
	info, err := v.store.fsys.Stat(d.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.Reason = "it is missing"
		if v.exists(filepath.Join(v.store.damagedDir(), c.String())) {
			d.Reason += ", since a repair has moved it to v1/damaged"
		}
	case err != nil:
		d.Reason = err.Error()
	case info.Size() != c.Size:
		d.Reason = fmt.Sprintf("it has %d octets, as its hash says, but %d are named", info.Size(), c.Size)
	default:
		return nil
	}
	return &d
}

// reportUnnamed tells of the damaged contents that nobody names, and of what is no
// content at all.
func (v *verifier) reportUnnamed() {
	for _, known := range v.misplaced() {
		if !known.named {
			v.report(Damage{Part: PartContent, File: known.file, Offset: known.offset, Reason: known.reason, Aside: known.aside})
		}
	}
}

// misplaced is everything that does not belong where it lies, sorted by name.
func (v *verifier) misplaced() []*damagedContent {
	all := slices.AppendSeq(slices.Clone(v.strays), maps.Values(v.damaged))
	slices.SortFunc(all, func(a, b *damagedContent) int { return strings.Compare(a.file, b.file) })
	return all
}
