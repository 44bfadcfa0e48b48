package server_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"builder/pkg/server"
	"builder/pkg/upload"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// frontend is a web frontend that answers as it is told and keeps what it takes.
type frontend struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	bodies map[uuid.UUID][][]byte // of requests, by build
}

func newFrontend(t testing.TB) *frontend {
	f := &frontend{status: http.StatusOK, bodies: map[uuid.UUID][][]byte{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/upload" || r.ContentLength != int64(len(body)) {
			t.Errorf("%s %s, %d of %d octets: %v", r.Method, r.URL, len(body), r.ContentLength, err)
			return
		}
		id := uuid.UUID(decode(t, body).UUID)
		f.mu.Lock()
		defer f.mu.Unlock()
		if sent := f.bodies[id]; len(sent) > 0 && !bytes.Equal(sent[0], body) {
			t.Errorf("build %v is sent as something else", id)
		}
		f.bodies[id] = append(f.bodies[id], body)
		w.WriteHeader(f.status)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *frontend) answer(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

// posts is how often a build was sent.
func (f *frontend) posts(id uuid.UUID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bodies[id])
}

// body is what was sent of a build; each try has to send the same.
func (f *frontend) body(id uuid.UUID) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bodies[id][0]
}

// uploads makes the frontends of these URLs.
func uploads(t testing.TB, urls ...string) []*upload.Frontend {
	t.Helper()
	var all []*upload.Frontend
	for _, url := range urls {
		f, err := upload.NewFrontend(url, upload.FrontendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// TestUpload delivers builds to a frontend: each once, through restarts, and 409
// says that it was delivered.
func TestUpload(t *testing.T) {
	f := newFrontend(t)
	r := start(t, func(c *server.Config) { c.Uploads = uploads(t, f.URL+"/upload") })
	r.schedule("one", "p", "x")
	build := func() uuid.UUID {
		t.Helper()
		w := r.requested(wire.OwnVersion, "p")
		id := w.begin().Build.UUID
		w.send(lines(id, 0, "printed"))
		w.send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: text("content")}}})
		w.receive(wire.KindStored)
		w.Close()
		return id
	}
	first := build()
	wait(t, "the upload", func() bool { return f.posts(first) == 1 })
	if diff := cmp.Diff(r.export(first).Raw, f.body(first)); diff != "" {
		t.Errorf("the body is not the result file (-want +got):\n%s", diff)
	}

	f.answer(http.StatusServiceUnavailable)
	r.execute("one")
	second := build()
	wait(t, "a refused upload", func() bool { return f.posts(second) > 0 })
	r.restart()
	tries := f.posts(second)
	wait(t, "a further try after the restart", func() bool { return f.posts(second) > tries })
	f.answer(http.StatusConflict)
	wait(t, "the delivery", func() bool { return r.log.count("build delivered", second.String()) > 0 })
	tries = f.posts(second)
	r.restart()
	r.execute("one")
	third := build()
	wait(t, "the third", func() bool { return f.posts(third) > 0 })
	if f.posts(second) != tries || f.posts(first) != 1 {
		t.Errorf("sent again: the first %d times, the second %d times after %d", f.posts(first), f.posts(second), tries)
	}
	// A build that tells nothing of its job is not sent.
	r.execute("one")
	w := r.requested(wire.OwnVersion, "p")
	lost := w.begin().Build.UUID
	w.Close()
	r.ended("one", 4)
	again := build()
	wait(t, "the one after it", func() bool { return f.posts(again) > 0 })
	if f.posts(lost) > 0 {
		t.Error("a lost build was sent")
	}
}
