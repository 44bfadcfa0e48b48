package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxArtifactPath is the longest path, in octets, that FreeBSD can name and
// Linux is content with.
const maxArtifactPath = 1023

// Artifact is a regular file that a build left in its output directory. Several
// names of one file are several artifacts.
type Artifact struct {
	// Path is relative to the output directory, clean, with slashes. Any octets
	// but NUL may be in a name.
	Path string
	Size int64
	// Mode holds the permission bits only.
	Mode fs.FileMode

	out  *output
	info fs.FileInfo
}

// Note names something in the output directory that is not an artifact.
type Note struct {
	Path string // as in Artifact
	Text string // why it is not
}

// Open opens the artifact for reading. It fails when the path now names another
// file than the one that was listed, and when the worker may not read it. It may be
// called from several goroutines, until Destroy; those that lie together are opened
// fastest one after the other.
func (a Artifact) Open() (*os.File, error) {
	f, err := a.out.open(a.Path)
	if err != nil {
		return nil, fmt.Errorf("opening artifact: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !(info.Mode().IsRegular() && os.SameFile(info, a.info)) {
		err = errReplaced
	}
	if err != nil {
		shut(f)
		return nil, fmt.Errorf("opening artifact: %w", err)
	}
	return f, nil
}

var (
	errNotRegular = errors.New("not a regular file")
	errReplaced   = errors.New("it was replaced")
)

// output is the output directory of a build.
type output struct {
	root *os.Root

	mu   sync.Mutex
	path string   // of here, in root
	here *os.Root // the directory in which a file was opened last
}

// open opens a file that may have been replaced by anything meanwhile: it does not
// wait for a writer of a FIFO.
func (o *output) open(name string) (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if dir := path.Dir(name); o.here == nil || dir != o.path {
		here, err := o.root.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		o.shutHere()
		o.path, o.here = dir, here
	}
	return o.here.OpenFile(path.Base(name), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

func (o *output) shutHere() {
	if o.here != nil {
		shut(o.here)
		o.here = nil
	}
}

// close closes the directories. No file is opened any more.
func (o *output) close() {
	o.shutHere()
	shut(o.root)
}

// Artifacts implements [Place].
func (p *place) Artifacts(check func(name string) error) ([]Artifact, []Note, error) {
	if p.out == nil && !p.empty {
		p.empty = unix.Rmdir(p.output()) == nil // one call, the most frequent case
	}
	if p.empty {
		return nil, nil, nil
	}
	out, err := p.openOutput()
	if err != nil {
		return nil, []Note{{Path: ".", Text: "unreadable output directory: " + reason(err)}}, nil
	}
	c := collector{out: out, check: check, pending: []string{"."}}
	for len(c.pending) > 0 {
		dir := c.pending[len(c.pending)-1]
		c.pending = c.pending[:len(c.pending)-1]
		if err := c.directory(dir); err != nil {
			c.note(dir, "unreadable directory: "+reason(err))
		}
	}
	slices.SortFunc(c.artifacts, func(a, b Artifact) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(c.notes, func(a, b Note) int { return strings.Compare(a.Path, b.Path) })
	return c.artifacts, c.notes, nil
}

// openOutput opens the output directory, unless the build has replaced it: a
// symbolic link could lead anywhere.
func (p *place) openOutput() (*output, error) {
	if p.out != nil {
		return p.out, nil
	}
	info, err := os.Lstat(p.output())
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(p.output())
	if err != nil {
		return nil, err
	}
	if opened, err := root.Stat("."); err != nil || !os.SameFile(info, opened) {
		shut(root)
		return nil, errReplaced
	}
	p.out = &output{root: root}
	return p.out, nil
}

// collector walks the output directory, with a list in place of recursion since
// a build may nest directories as deep as it likes.
type collector struct {
	out       *output
	check     func(name string) error
	pending   []string // directories
	artifacts []Artifact
	notes     []Note
}

func (c *collector) note(name, text string) {
	c.notes = append(c.notes, Note{Path: name, Text: text})
}

// directory collects what is in one directory.
func (c *collector) directory(dir string) error {
	// Names are looked up in an opened directory: cheap however deep it is.
	here, err := c.out.root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer shut(here)
	f, err := here.Open(".")
	if err != nil {
		return err
	}
	defer shut(f)
	entries, err := f.ReadDir(-1)
	for _, entry := range entries {
		c.entry(path.Join(dir, entry.Name()), entry)
	}
	return err
}

func (c *collector) entry(name string, entry fs.DirEntry) {
	if len(name) > maxArtifactPath {
		c.note(name, fmt.Sprintf("path of %d octets: %d are allowed", len(name), maxArtifactPath))
		return
	}
	if entry.IsDir() {
		c.pending = append(c.pending, name)
		return
	}
	if !entry.Type().IsRegular() {
		c.note(name, kind(entry.Type()))
		return
	}
	if c.check != nil {
		if err := c.check(name); err != nil {
			c.note(name, err.Error())
			return
		}
	}
	info, err := entry.Info() // in a root it was taken when the directory was read
	if err != nil {
		c.note(name, "unreadable file: "+reason(err))
		return
	}
	c.artifacts = append(c.artifacts, Artifact{
		Path: name, Size: info.Size(), Mode: info.Mode().Perm(), out: c.out, info: info,
	})
}

// kind says what is not followed.
func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link, not followed"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	default:
		return errNotRegular.Error()
	}
}

// reason is an error without the path, which the note has.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}
