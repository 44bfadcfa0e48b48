package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// frontend is a web frontend that keeps the first of each build, and tells of
// repeated ones.
type frontend struct {
	site
	find func(format string, args ...any)

	mu     sync.Mutex
	stored map[uuid.UUID]posted
}

// posted is a build as it came.
type posted struct {
	wire.Exec
	console   []byte // its lines, one behind the other: the format has no newlines
	artifacts []job.Artifact
	sum       [sha256.Size]byte // of all of it
}

// What an ill frontend does; other moods are good ones.
const (
	well = iota
	overloaded
	forbids
	tears
	sticks
	failsLate // when it has stored the build
	forgets   // to answer, as above
	slow
	moods = 12
)

func newFrontend(ctx context.Context, seed uint64, ill bool, find func(string, ...any)) (*frontend, error) {
	f := &frontend{find: find, stored: map[uuid.UUID]posted{}}
	return f, f.serve(ctx, seed, ill, f.take)
}

func (f *frontend) url() string { return "http://" + f.address + "/upload" }

// take takes one build.
func (f *frontend) take(w http.ResponseWriter, r *http.Request) {
	mood := f.mood(moods)
	switch mood {
	case overloaded:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case forbids:
		w.WriteHeader(http.StatusForbidden)
		return
	case tears:
		io.CopyN(io.Discard, r.Body, r.ContentLength/2) //nolint:errcheck // whatever came
		hangUp()
	case sticks:
		f.stick(r)
	case slow:
		time.Sleep(500 * time.Millisecond)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil || int64(len(text)) != r.ContentLength {
		hangUp() // the server has gone, or given up
	}
	p, err := readPosted(text)
	if err != nil {
		f.find("the frontend got %d octets that are no build: %v", len(text), err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	again := f.store(p)
	switch {
	case mood == failsLate:
		w.WriteHeader(http.StatusInternalServerError)
	case mood == forgets:
		hangUp()
	case again:
		w.WriteHeader(http.StatusConflict)
	default:
		w.WriteHeader(http.StatusCreated)
	}
}

// store reports whether it has the build already.
func (f *frontend) store(p posted) (again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, again := f.stored[p.UUID]
	switch {
	case !again:
		f.stored[p.UUID] = p
	case known.sum != p.sum:
		f.find("build %v was uploaded once more, as another one", uuid.UUID(p.UUID))
	}
	return again
}

// builds is a copy of what it has.
func (f *frontend) builds() map[uuid.UUID]posted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.stored)
}

// readPosted takes a result file apart.
func readPosted(text []byte) (posted, error) {
	p := posted{sum: sha256.Sum256(text)}
	var lines [][]byte
	var err error
	p.Exec, err = wire.ReadExec(bytes.NewReader(text), int64(len(text)), wire.ExecVisitor{
		Line: func(_ time.Duration, data io.Reader, _ int64) error {
			line, err := io.ReadAll(data)
			lines = append(lines, line)
			return err
		},
		File: func(path string, data io.Reader, _ int64) error {
			content, err := io.ReadAll(data)
			p.artifacts = append(p.artifacts, job.Artifact{Path: path, Content: job.ContentOf(content)})
			return err
		},
	})
	slices.Reverse(lines)
	p.console = bytes.Join(lines, nil)
	return p, err
}
