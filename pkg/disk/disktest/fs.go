// Package disktest is a file system in memory that forgets like a real one.
//
// It implements [disk.FS] for tests of everything that must survive a power cut
// or a failing disk. Readers see what was written; beside that it records what
// a disk may hold instead as long as nobody synced:
//
//	what             until                    a power cut leaves
//	data of a file   File.Sync, Barrier.Sync  each piece of 32 octets in any version since the
//	                                          last sync (never written: zero)
//	length           the same                 any length since the last sync
//	a name           FS.SyncDir of its        made or not, removed or not; a rename as one:
//	                 directory (a rename:     the old name or the new one
//	                 of both directories),
//	                 Barrier.Sync
//
// That is more than most file systems forget, and nothing that POSIX promises:
// code that survives here does not lean on what one of them happens to do.
//
// A test sets faults with [FS.Inject] and [FS.CutAt], runs its code, and goes on
// with the disk that [FS.Crash] returns, or with the same one after [FS.Heal].
// Every choice comes from the seed: the same seed and the same calls give the
// same disk.
package disktest

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"builder/pkg/disk"
)

// FS is a disk in memory. It begins with an empty root directory; relative
// names are taken from there. Modes are kept but not enforced, there are no
// links and no times. It is safe for concurrent use.
type FS struct {
	mu     sync.Mutex
	rng    *rand.Rand
	root   *node
	files  []*node // all that were ever made
	synced image
	log    []*change // what was done to names since, in order
	faults []*fault
	room   disk.Room
	steps  int
	failed int
	losses int // syncs that failed
	cut    bool
}

var _ disk.FS = (*FS)(nil)

// New returns an empty disk whose choices all follow from seed.
func New(seed uint64) *FS {
	root := newDir(fs.ModeDir | 0o755)
	return &FS{
		rng:    rand.New(rand.NewPCG(seed, 0)),
		root:   root,
		synced: newImage(root),
		room:   disk.Room{Free: 1 << 40, Size: 1 << 41},
	}
}

// node is a file or a directory.
type node struct {
	mode    fs.FileMode
	entries map[string]*node // of a directory
	content content          // of a file
	losses  int              // syncs that failed
}

func newDir(mode fs.FileMode) *node {
	return &node{mode: mode, entries: map[string]*node{}}
}

// OpenFile implements [disk.FS].
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpOpen)
	if !do.apply {
		return nil, &fs.PathError{Op: "open", Path: name, Err: do.err}
	}
	n, err := f.open(name, flag, perm)
	if err == nil {
		err = do.err
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &file{fs: f, node: n, name: name, flag: flag, seen: n.losses}, nil
}

func (f *FS) open(name string, flag int, perm fs.FileMode) (*node, error) {
	at, n, err := f.lookup(name)
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case err != nil:
		return nil, err
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = &node{mode: perm.Perm()}
		f.files = append(f.files, n)
		f.change(n, entry{}, at)
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case n.mode.IsDir() && (writes || flag&os.O_CREATE != 0):
		return nil, syscall.EISDIR
	case flag&os.O_TRUNC != 0 && writes:
		n.content.truncate(0)
	}
	return n, nil
}

// Mkdir implements [disk.FS].
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpMkdir)
	if !do.apply {
		return &fs.PathError{Op: "mkdir", Path: name, Err: do.err}
	}
	at, n, err := f.lookup(name)
	if err == nil && n != nil {
		err = syscall.EEXIST
	}
	if err == nil {
		f.change(newDir(fs.ModeDir|perm.Perm()), entry{}, at)
		err = do.err
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return nil
}

// Rename implements [disk.FS].
func (f *FS) Rename(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpRename)
	if !do.apply {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: do.err}
	}
	err := f.rename(oldname, newname)
	if err == nil {
		err = do.err
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (f *FS) rename(oldname, newname string) error {
	from, n, err := f.lookup(oldname)
	if err != nil {
		return err
	}
	to, replaced, err := f.lookup(newname)
	switch {
	case err != nil:
		return err
	case n == nil:
		return syscall.ENOENT
	case replaced != nil && replaced.mode.IsDir():
		return syscall.EEXIST // that is os.Rename; the system call would replace an empty one
	case n == replaced:
		return nil
	case n.mode.IsDir() && strings.HasPrefix(clean(newname), clean(oldname)+"/"):
		return syscall.EINVAL
	case n.mode.IsDir() && replaced != nil:
		return syscall.ENOTDIR
	}
	f.change(n, from, to)
	return nil
}

// Remove implements [disk.FS].
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpRemove)
	if !do.apply {
		return &fs.PathError{Op: "remove", Path: name, Err: do.err}
	}
	at, n, err := f.lookup(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case n == f.root:
		err = syscall.EBUSY
	case len(n.entries) > 0:
		err = syscall.ENOTEMPTY
	default:
		f.change(n, at, entry{})
		err = do.err
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// ReadDir implements [disk.FS].
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpRead)
	n, err := f.existing(name)
	if err == nil && !n.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if do.err != nil {
		err = do.err
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	var list []fs.DirEntry
	for base, child := range n.entries {
		list = append(list, fs.FileInfoToDirEntry(child.info(base)))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Stat implements [disk.FS].
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpRead)
	n, err := f.existing(name)
	if do.err != nil {
		err = do.err
	}
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.info(path.Base(clean(name))), nil
}

// SyncDir implements [disk.FS]. One that fails makes any part of the names
// durable; the rest stays to be synced by the next one. (Names go through the
// file system's own journal, which stops everything when it can not be written:
// unlike data, they are not forgotten while the system goes on.)
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpSyncDir)
	n, err := f.existing(name)
	switch {
	case err != nil:
	case !n.mode.IsDir():
		err = syscall.ENOTDIR
	case do.apply:
		f.syncNames(n, func() bool { return true })
	case do.partial:
		f.syncNames(n, func() bool { return f.rng.IntN(2) == 0 })
	}
	if do.err != nil {
		err = do.err
	}
	if err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	return nil
}

// Room implements [disk.FS]: it is what SetRoom said last, whatever is written.
func (f *FS) Room(dir string) (disk.Room, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do := f.step(OpRead)
	_, err := f.existing(dir)
	if do.err != nil {
		err = do.err
	}
	if err != nil {
		return disk.Room{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return f.room, nil
}

// SetRoom says how much room there is; at first that is plenty.
func (f *FS) SetRoom(r disk.Room) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = r
}

// lookup finds the directory entry of name, and what is there, if anything.
func (f *FS) lookup(name string) (entry, *node, error) {
	name = clean(name)
	if name == "/" {
		return entry{}, f.root, nil
	}
	dir := f.root
	parts := strings.Split(name[1:], "/")
	for _, part := range parts[:len(parts)-1] {
		dir = dir.entries[part]
		if dir == nil {
			return entry{}, nil, syscall.ENOENT
		}
		if !dir.mode.IsDir() {
			return entry{}, nil, syscall.ENOTDIR
		}
	}
	last := parts[len(parts)-1]
	return entry{dir, last}, dir.entries[last], nil
}

func (f *FS) existing(name string) (*node, error) {
	_, n, err := f.lookup(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	return n, err
}

func clean(name string) string { return path.Clean("/" + name) }
