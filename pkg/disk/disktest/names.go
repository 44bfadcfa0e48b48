package disktest

import "maps"

// entry is the place of a name; the zero value is nowhere.
type entry struct {
	dir  *node
	name string
}

// change is what one operation did to names: node went from one place to
// another. It is durable when no directory of it waits for a sync.
type change struct {
	node     *node
	from, to entry
	waits    map[*node]bool
}

// change moves n and records it.
func (f *FS) change(n *node, from, to entry) {
	c := &change{node: n, from: from, to: to, waits: map[*node]bool{}}
	if from.dir != nil {
		delete(from.dir.entries, from.name)
		c.waits[from.dir] = true
	}
	if to.dir != nil {
		to.dir.entries[to.name] = n
		c.waits[to.dir] = true
	}
	f.log = append(f.log, c)
}

// syncNames makes those changes in dir, in any directory for nil, durable that chosen
// says.
func (f *FS) syncNames(dir *node, chosen func() bool) {
	for _, c := range f.log {
		switch {
		case dir == nil && chosen():
			clear(c.waits)
		case c.waits[dir] && chosen():
			delete(c.waits, dir)
		}
	}
	// A durable change behind one that is not must stay in the log: what is
	// known of a name is the last change, in the order in which they were made.
	for len(f.log) > 0 && len(f.log[0].waits) == 0 {
		f.synced.apply(f.log[0])
		f.log = f.log[1:]
	}
}

// image is the names on a disk: what each directory holds.
type image struct {
	names map[*node]map[string]*node
	at    map[*node]entry
}

func newImage(root *node) image {
	return image{names: map[*node]map[string]*node{root: {}}, at: map[*node]entry{}}
}

func (i image) clone() image {
	c := image{names: map[*node]map[string]*node{}, at: maps.Clone(i.at)}
	for dir, names := range i.names {
		c.names[dir] = maps.Clone(names)
	}
	return c
}

// apply does c to the image, which may lack any change that was made before it.
func (i image) apply(c *change) {
	if c.to.dir == nil {
		if i.at[c.node] == c.from {
			i.drop(c.node)
		}
		return
	}
	i.drop(c.node)
	if i.names[c.to.dir] == nil {
		i.names[c.to.dir] = map[string]*node{}
	}
	if replaced := i.names[c.to.dir][c.to.name]; replaced != nil {
		i.drop(replaced)
	}
	i.names[c.to.dir][c.to.name] = c.node
	i.at[c.node] = c.to
}

func (i image) drop(n *node) {
	if at, ok := i.at[n]; ok {
		delete(i.names[at.dir], at.name)
		delete(i.at, n)
	}
}
