package remote

import (
	"context"
	"fmt"
	"io"

	"builder/pkg/job"
)

// Stores are several, found by their prefixes.
type Stores []*Store

// NewStores makes a Store of each URL.
func NewStores(urls []string, o Options) (Stores, error) {
	var stores Stores
	for _, raw := range urls {
		s, err := New(raw, o)
		if err != nil {
			return nil, err
		}
		if stores.find(s.prefix) != nil {
			return nil, fmt.Errorf("the store %s is named twice", s.prefix)
		}
		stores = append(stores, s)
	}
	return stores, nil
}

func (all Stores) find(prefix string) *Store {
	for _, s := range all {
		if s.prefix == prefix {
			return s
		}
	}
	return nil
}

// Prefixes are those of all.
func (all Stores) Prefixes() []string {
	var prefixes []string
	for _, s := range all {
		prefixes = append(prefixes, s.prefix)
	}
	return prefixes
}

// Follows reports whether one of them has that prefix.
func (all Stores) Follows(prefix string) bool { return all.find(prefix) != nil }

// Has is [Store.Has] of the one with that prefix.
func (all Stores) Has(ctx context.Context, prefix string, c job.Content) (bool, error) {
	s := all.find(prefix)
	if s == nil {
		return false, unknown(prefix)
	}
	return s.Has(ctx, c)
}

// Open is [Store.Open] of the one with that prefix.
func (all Stores) Open(ctx context.Context, prefix string, c job.Content) (io.ReadCloser, error) {
	s := all.find(prefix)
	if s == nil {
		return nil, unknown(prefix)
	}
	return s.Open(ctx, c)
}

// Close closes the connections that are not in use.
func (all Stores) Close() {
	for _, s := range all {
		s.Close()
	}
}

func unknown(prefix string) error {
	return fmt.Errorf("the store %s is not one that is followed: name it with --store", prefix)
}
