package main

import (
	"context"
	"io"
	"net/http"
	"path"
	"strconv"
	"sync"

	"builder/pkg/job"
)

// depot is an HTTP store of contents, in memory.
type depot struct {
	site
	find func(format string, args ...any)

	mu     sync.Mutex
	stored map[string][]byte // by path
}

func newDepot(ctx context.Context, seed uint64, find func(string, ...any)) (*depot, error) {
	d := &depot{find: find, stored: map[string][]byte{}}
	return d, d.serve(ctx, seed, true, d.answer)
}

// url is the location of what it has.
func (d *depot) url() string { return "http://" + d.address + "/depot" }

// has reports whether it has the content, whole.
func (d *depot) has(c job.Content) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	octets, ok := d.stored["/depot/"+c.String()[:2]+"/"+c.String()]
	return ok && job.ContentOf(octets) == c
}

func (d *depot) answer(w http.ResponseWriter, r *http.Request) {
	const seldom = 4
	switch mood := d.mood(seldom * moods); {
	case mood == overloaded:
		w.WriteHeader(http.StatusServiceUnavailable)
	case mood == failsLate:
		w.WriteHeader(http.StatusInternalServerError)
	case mood == tears:
		io.CopyN(io.Discard, r.Body, r.ContentLength/2) //nolint:errcheck // whatever came
		hangUp()
	case r.Method == http.MethodPut:
		d.put(w, r, mood == forgets)
	default:
		d.get(w, r)
	}
}

// put takes a content; a depot that forgets keeps a part of it, and says otherwise.
func (d *depot) put(w http.ResponseWriter, r *http.Request, forgets bool) {
	octets, err := io.ReadAll(r.Body)
	if err != nil || int64(len(octets)) != r.ContentLength {
		hangUp()
	}
	if job.ContentOf(octets).String() != path.Base(r.URL.Path) {
		d.find("the depot got %d octets that are not %s", len(octets), r.URL.Path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.stored[r.URL.Path]; len(known) <= len(octets) && !forgets {
		d.stored[r.URL.Path] = octets
	} else if len(known) < len(octets) {
		d.stored[r.URL.Path] = octets[:len(octets)/2]
	}
	w.WriteHeader(http.StatusCreated)
}

func (d *depot) get(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	octets, ok := d.stored[r.URL.Path]
	d.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(octets)))
	if r.Method == http.MethodGet {
		w.Write(octets) //nolint:errcheck // whoever asked has gone
	}
}
