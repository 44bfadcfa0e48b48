package jail

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"builder/pkg/sandbox"
)

// source is what the roots of jails are made of.
type source interface {
	// origin is told in the record of a build.
	origin() string
	// fill makes the root of a place, which is an empty directory.
	fill(ctx context.Context, name, root string) error
	// reopen makes sure that the root of a place can be read, after a restart. The error
	// is os.ErrNotExist if there is none any more.
	reopen(ctx context.Context, name string) error
	// limit bounds what can be written in it.
	limit(ctx context.Context, name string, size int64) error
	// empty removes a root that nothing uses any more, if there is one.
	empty(ctx context.Context, name, root string) error
	// names are those that something was made for; others may be among them.
	names(ctx context.Context) ([]string, error)
}

func newSource(ctx context.Context, conf Config) (source, error) {
	if conf.Base != "" {
		return newArchive(conf)
	}
	guid, err := conf.Run(ctx, zfsGet("guid", conf.Snapshot)...)
	if err != nil {
		return nil, fmt.Errorf("asking for the snapshot: %w", err)
	}
	return &clones{conf: conf, guid: strings.TrimSpace(guid)}, nil
}

// clones are clones of a snapshot.
type clones struct {
	conf Config
	guid string
}

func (c *clones) origin() string             { return c.conf.Snapshot + " guid " + c.guid }
func (c *clones) dataset(name string) string { return c.conf.parent() + "/" + name }
func (c *clones) do(ctx context.Context, argv []string) error {
	_, err := c.conf.Run(ctx, argv...)
	return err
}

func (c *clones) fill(ctx context.Context, name, root string) error {
	if err := c.do(ctx, zfsClone(c.conf.Snapshot, c.dataset(name), root)); err != nil {
		return err
	}
	return c.mount(ctx, name)
}

func (c *clones) reopen(ctx context.Context, name string) error {
	names, err := c.names(ctx)
	if err == nil && !slices.Contains(names, name) {
		err = fmt.Errorf("dataset %s: %w", c.dataset(name), os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	return c.mount(ctx, name)
}

func (c *clones) mount(ctx context.Context, name string) error {
	mounted, err := c.conf.Run(ctx, zfsGet("mounted", c.dataset(name))...)
	if err != nil || strings.TrimSpace(mounted) == "yes" {
		return err
	}
	return c.do(ctx, zfsMount(c.dataset(name)))
}

func (c *clones) limit(ctx context.Context, name string, size int64) error {
	return c.do(ctx, zfsQuota(c.dataset(name), size))
}

func (c *clones) names(ctx context.Context) ([]string, error) {
	out, err := c.conf.Run(ctx, zfsChildren(c.conf.parent())...)
	var names []string
	for _, dataset := range strings.Fields(out) {
		if name, ok := strings.CutPrefix(dataset, c.conf.parent()+"/"); ok {
			names = append(names, name)
		}
	}
	return names, err
}

// empty destroys a clone. It stays busy for a moment after the last process that
// used it: the jail may be dying still.
func (c *clones) empty(ctx context.Context, name, _ string) error {
	for start, pause := time.Now(), 20*time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		names, err := c.names(ctx)
		if err != nil || !slices.Contains(names, name) {
			return err
		}
		err = c.do(ctx, zfsDestroy(c.dataset(name)))
		if err == nil || !strings.Contains(err.Error(), "busy") || time.Since(start) > busyLimit {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// archive is a tar archive, for systems without ZFS.
type archive struct {
	conf Config
	hash string
}

func newArchive(conf Config) (*archive, error) {
	f, err := os.Open(conf.Base)
	if err != nil {
		return nil, fmt.Errorf("reading the jail's archive: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("reading the jail's archive: %w", err)
	}
	return &archive{conf: conf, hash: fmt.Sprintf("%x", h.Sum(nil))}, nil
}

func (a *archive) origin() string { return a.conf.Base + " sha256 " + a.hash }

func (a *archive) fill(ctx context.Context, _, root string) error {
	_, err := a.conf.Run(ctx, extract(a.conf.Base, root)...)
	return err
}

func (*archive) reopen(context.Context, string) error { return nil }

func (*archive) limit(context.Context, string, int64) error {
	return errors.New("a bound on the disk needs clones of a ZFS snapshot")
}

func (*archive) names(context.Context) ([]string, error) { return nil, nil }

func (a *archive) empty(ctx context.Context, _, root string) error {
	if _, err := os.Lstat(root); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := a.conf.Run(ctx, clearFlags(root)...); err != nil {
		return err
	}
	return sandbox.Remove(root)
}
