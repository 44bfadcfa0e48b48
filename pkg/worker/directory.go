package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/disk"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
)

// Directory is what a worker keeps between its starts:
//
//	id       its identity, a uuid
//	isolation kind of what is in builds, see Claim
//	servers  addresses of servers that speak our own version, one in a line
//	builds/  places of builds that are held
//	spool/   their consoles and ends, see spool; empty ones are spares
//	rejected/ ended builds that the server did not take, see reject
//	kept/    names of places of failed builds that people may enter, see kept
//	lock     held by the process that uses it
type Directory struct {
	Path   string
	ID     uuid.UUID
	own    []string
	unlock func() error
}

// OpenDirectory locks the directory, which is made if it is missing.
func OpenDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("making the worker's directory: %w", err)
	}
	unlock, err := disk.Lock(path)
	if err != nil {
		return nil, err
	}
	d := &Directory{Path: path, unlock: unlock}
	err = d.read()
	for _, dir := range []string{d.spool(), d.rejected(), d.kept()} {
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return d, nil
}

func (d *Directory) read() error {
	servers, err := os.ReadFile(filepath.Join(d.Path, "servers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.own = strings.Fields(string(servers))
	file := filepath.Join(d.Path, "id")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		d.ID = uuid.New()
		return renameio.WriteFile(file, []byte(d.ID.String()+"\n"), 0o644)
	}
	if err != nil {
		return err
	}
	if d.ID, err = uuid.Parse(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("reading the worker's identity %s: %w; remove the file to get a new one", file, err)
	}
	return nil
}

// Claim says which kind of isolation makes places from now on. It is an error if there
// are places of another kind: that one only can read, remove and keep them.
func (d *Directory) Claim(kind string) error {
	file := filepath.Join(d.Path, "isolation")
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before := strings.TrimSpace(string(text))
	if before == kind {
		return nil
	}
	places, err := os.ReadDir(d.Builds())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case len(places) == 0:
	case before == "": // by an earlier version: of which kind they are is not known
		return nil
	default:
		return fmt.Errorf("%s has places of isolation %s: start the worker with that and its settings to deliver its builds, and remove the rest with builder-worker sweep --all --isolation %s",
			d.Path, before, before)
	}
	return renameio.WriteFile(file, []byte(kind+"\n"), 0o644)
}

// KnownOwn reports whether that server has spoken our own version before.
func (d *Directory) KnownOwn(address string) bool { return slices.Contains(d.own, address) }

// RememberOwn notes that it does.
func (d *Directory) RememberOwn(address string) error {
	if d.KnownOwn(address) {
		return nil
	}
	own := append(slices.Clone(d.own), address)
	err := renameio.WriteFile(filepath.Join(d.Path, "servers"), []byte(strings.Join(own, "\n")+"\n"), 0o644)
	if err == nil {
		d.own = own
	}
	return err
}

func (d *Directory) spool() string    { return filepath.Join(d.Path, "spool") }
func (d *Directory) rejected() string { return filepath.Join(d.Path, "rejected") }
func (d *Directory) kept() string     { return filepath.Join(d.Path, "kept") }

func (d *Directory) spoolPath(id uuid.UUID) string { return filepath.Join(d.spool(), id.String()) }

// Builds is where the places of builds are made.
func (d *Directory) Builds() string { return filepath.Join(d.Path, "builds") }

// Close lets others use the directory.
func (d *Directory) Close() error { return d.unlock() }
