package store

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"

	"builder/pkg/job"
	"builder/pkg/retention"
)

// sweepContents removes the contents that no build that stays names, and nothing else
// needs. Of a dry one, and where a record can not be read, they stay.
func (p *pruning) sweepContents(ctx context.Context, needed []job.Content) error {
	marked := map[contentKey]bool{}
	for _, c := range needed {
		marked[keyOf(c)] = true
	}
	for _, key := range p.found.kept {
		marked[key] = true
	}
	named := map[contentKey]bool{} // by what goes
	for _, b := range p.found.builds {
		about, fate := p.found.about[b.UUID], p.fates[b.UUID]
		if fate == retention.Remove {
			named[about.script] = true
		} else {
			marked[about.script] = true
		}
		for _, key := range about.keys {
			if fate != 0 || b.Pruned {
				named[key] = true
			} else {
				marked[key] = true
			}
		}
	}
	var victims []job.Content
	if p.found.damaged == 0 {
		var err error
		if victims, err = p.unmarked(ctx, marked); err != nil {
			return err
		}
	}
	if !p.dry {
		if err := p.syncMarks(victims); err != nil {
			return err
		}
	}
	for _, c := range victims {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.sweep(c, named[keyOf(c)]); err != nil {
			return err
		}
	}
	return nil
}

// unmarked are the contents on the disk that are not marked.
func (p *pruning) unmarked(ctx context.Context, marked map[contentKey]bool) ([]job.Content, error) {
	var found []job.Content
	prefixes, err := p.fsys.ReadDir(p.contents)
	if err != nil {
		return nil, err
	}
	for _, prefix := range prefixes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !prefix.IsDir() {
			continue
		}
		entries, err := p.fsys.ReadDir(filepath.Join(p.contents, prefix.Name()))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			c, ours := contentNamed(prefix.Name(), entry.Name())
			if !ours || marked[keyOf(c)] {
				continue
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			c.Size = info.Size()
			found = append(found, c)
		}
	}
	return found, nil
}

// contentNamed is the content, without its size, whose file has that name in that
// directory. Others may lie there for reasons of their own.
func contentNamed(prefix, name string) (c job.Content, ok bool) {
	sum, err := hex.DecodeString(name)
	if err != nil || len(sum) != len(c.SHA256) {
		return c, false
	}
	copy(c.SHA256[:], sum)
	return c, c.String() == name && name[:2] == prefix
}

// syncMarks makes the marks of pruned builds durable: of those that were pruned now,
// and of those whose contents are still there, since whoever pruned them may have
// been killed before that.
func (p *pruning) syncMarks(victims []job.Content) error {
	goes := make(map[contentKey]bool, len(victims))
	for _, c := range victims {
		goes[keyOf(c)] = true
	}
	for _, b := range p.found.builds {
		fate := p.fates[b.UUID]
		if fate == retention.Remove || fate != retention.Strip && !b.Pruned {
			continue
		}
		about := p.found.about[b.UUID]
		matters := fate == retention.Strip
		for _, key := range about.keys {
			matters = matters || goes[key]
		}
		if !matters {
			continue
		}
		if err := p.fsys.SyncDir(p.dir(about.place)); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes one content, unless it is held, and counts it.
func (p *pruning) sweep(c job.Content, named bool) error {
	gone, err := p.use.sweep(keyOf(c), func() error {
		if p.dry {
			return nil
		}
		return p.fsys.Remove(p.contentFile(c))
	})
	switch {
	case err != nil || !gone:
		return err
	case named:
		p.done.Freed += c.Size
	default:
		p.done.Orphans++
		p.done.OrphanOctets += c.Size
	}
	return nil
}
