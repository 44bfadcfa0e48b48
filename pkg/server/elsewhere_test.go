package server_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/remote"
	"builder/pkg/remote/remotetest"
	"builder/pkg/server"
	"builder/pkg/worker"

	"github.com/google/go-cmp/cmp"
)

// known are credentials and certificates of a real store, and little patience.
func known(t testing.TB, caFile string) remote.Options {
	t.Helper()
	credentials, err := remote.ReadCredentials("", remotetest.User+":"+remotetest.Password)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Options{Credentials: credentials, CAFile: caFile, Pause: time.Millisecond}
}

// following is a server that takes contents of that store.
func following(t testing.TB, url string, o remote.Options) func(*server.Config) {
	t.Helper()
	return func(c *server.Config) {
		stores, err := remote.NewStores([]string{url}, o)
		if err != nil {
			t.Fatal(err)
		}
		c.Stores = stores
	}
}

// putting is a worker that puts contents into that store.
func putting(t testing.TB, url string, o remote.Options) func(*worker.Config) {
	t.Helper()
	return func(c *worker.Config) {
		store, err := remote.New(url, o)
		if err != nil {
			t.Fatal(err)
		}
		c.Store = store
	}
}

// large are octets that do not fit into the buffers of connections.
var large = strings.Repeat("x", 4<<20)

// leaving is a script that leaves large, two equal files and an empty one.
const leaving = `
mkdir -p bin
head -c 4194304 /dev/zero | tr '\0' x >bin/large
printf same >a
printf same >b
: >empty
`

var left = map[string]string{"bin/large": large, "a": "same", "b": "same", "empty": ""}

// located are the paths of a build's artifacts that lie in a store, and all notes.
func located(t *testing.T, b job.Build, location string) (paths []string, notes string) {
	t.Helper()
	for _, a := range b.Artifacts {
		switch a.Location {
		case location:
			paths = append(paths, a.Path)
		case "":
		default:
			t.Errorf("artifact %q lies in %q", a.Path, a.Location)
		}
	}
	slices.Sort(paths)
	if b.Result != (job.Result{Kind: job.Exited}) || len(b.Artifacts) != len(left) {
		t.Errorf("the build %v, with %d artifacts", b.Result, len(b.Artifacts))
	}
	return paths, strings.Join(b.Notes, "\n")
}

// has reports whether the server's own store has a content.
func (r *running) has(text string) bool {
	c := job.ContentOf([]byte(text))
	_, err := os.Stat(filepath.Join(r.config.Dir, "v1", "content", c.String()[:2], c.String()))
	return err == nil
}

// exports checks what a result file gives.
func (r *running) exports(b job.Build) {
	r.t.Helper()
	if d := cmp.Diff(left, r.export(b.UUID).Files); d != "" {
		r.t.Errorf("exported (-want +got):\n%.300s", d)
	}
}

var all = []string{"a", "b", "bin/large", "empty"}

// TestStore: what a worker leaves goes into the store and not through the server,
// which has it from there when it is asked; what is there is not sent again.
func TestStore(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{TLS: true})
	o := known(t, real.CAFile)
	r := start(t, following(t, real.URL, o))
	r.worker("p", putting(t, real.URL, o))
	r.schedule("one", "p", leaving)
	for i := range 2 {
		if i > 0 {
			r.execute("one")
		}
		b := r.record(r.ended("one", i+1)[0].UUID)
		paths, notes := located(t, b, real.URL)
		if d := cmp.Diff(all, paths); d != "" || notes != "" {
			t.Errorf("in the store (-want +got):\n%s%s", d, notes)
		}
		r.exports(b)
	}
	if r.has(large) || r.has("same") || r.has("") {
		t.Error("the server has contents of its own")
	}
	r.restart()
	r.exports(r.builds("one")[0])
	if n := real.Requests(t, "PUT"); n != 3 {
		t.Errorf("%d contents were sent, 3 are there", n)
	}
	if strings.Contains(r.log.String(), remotetest.Password) {
		t.Error("the log has the password")
	}
}

// TestStoreSmall: many small contents are not all asked for, and are not sent again
// when they are there.
func TestStoreSmall(t *testing.T) {
	var puts, heads atomic.Int64
	s := httptest.NewServer(newMemory(func(_ *memory, _ http.ResponseWriter, r *http.Request) bool {
		switch r.Method {
		case http.MethodPut:
			puts.Add(1)
		case http.MethodHead:
			heads.Add(1)
		}
		return false
	}))
	t.Cleanup(s.Close)
	r := start(t, following(t, s.URL, remote.Options{}))
	r.worker("p", putting(t, s.URL, remote.Options{}))
	r.schedule("one", "p", "i=0; while [ $i -lt 200 ]; do echo $i >$i; i=$((i+1)); done")
	r.ended("one", 1)
	// The server asks for each.
	if puts.Load() != 200 || heads.Load() > 200+100 {
		t.Errorf("%d contents were sent, with %d questions", puts.Load(), heads.Load())
	}
	r.execute("one")
	r.ended("one", 2)
	if n := puts.Load(); n != 200 {
		t.Errorf("%d contents were sent, of which 200 were not there", n)
	}
}

// TestStoreNotTaken: a server that does not know the store, or can not look there,
// gets all contents itself.
func TestStoreNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		server func(*server.Config)
		url    func(string) string
		note   string
	}{
		"no store":      {server: func(*server.Config) {}},
		"another store": {server: following(t, "http://127.0.0.1:9/artifacts", remote.Options{})},
		"a store of which the server knows no password": {note: "401 Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			real := remotetest.Nginx(t, remotetest.Options{})
			if test.server == nil {
				test.server = following(t, real.URL, remote.Options{})
			}
			r := start(t, test.server)
			r.worker("p", putting(t, real.URL, known(t, "")))
			r.schedule("one", "p", leaving)
			b := r.record(r.ended("one", 1)[0].UUID)
			paths, notes := located(t, b, real.URL)
			if paths != nil || !strings.Contains(notes, test.note) || (notes == "") != (test.note == "") {
				t.Errorf("%q in the store, notes %q", paths, notes)
			}
			r.exports(b)
			if sent := real.Requests(t, "PUT"); (sent > 0) != (test.note != "") {
				t.Errorf("%d contents were sent", sent)
			}
		})
	}
}

// TestStoreFails: what the store does not take goes through the server, and the
// record says so.
func TestStoreFails(t *testing.T) {
	for name, test := range map[string]struct {
		store http.HandlerFunc // nil: none listens
		in    []string         // the store, in the end
		note  string
	}{
		"down": {nil, nil, "3 of 3 contents went through the server, since the store did not take them: "},
		"unauthorized": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
		}, nil, "it answered 401 Unauthorized"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:9/", http.StatusTemporaryRedirect)
		}, nil, "it answered 307"},
		"takes nothing large": {newMemory(func(_ *memory, w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && r.ContentLength > 1000 {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return true
			}
			return false
		}), []string{"a", "b", "empty"}, "1 of 3 contents went through the server, since the store did not take them: "},
		"full": {newMemory(func(_ *memory, w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && r.ContentLength > 1000 {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusInsufficientStorage)
				return true
			}
			return false
		}), []string{"a", "b", "empty"}, "it answered 507"},
		"says yes and keeps nothing": {newMemory(func(_ *memory, _ http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodPut
		}), nil, "has not all of content"},
		"keeps the beginning": {newMemory(func(m *memory, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && r.ContentLength > 1000 {
				m.keep(r, 1000)
				return true
			}
			return false
		}), []string{"a", "b", "empty"}, "has not all of content"},
		"stuck": {newMemory(func(_ *memory, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				stick(r)
				panic(http.ErrAbortHandler)
			}
			return false
		}), nil, "no octet moved"},
		"stuck at once": {func(_ http.ResponseWriter, r *http.Request) {
			stick(r)
		}, nil, "no octet moved"},
		"dies in the middle": {newMemory(func(_ *memory, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && r.ContentLength > 1000 {
				io.CopyN(io.Discard, r.Body, 100_000)
				panic(http.ErrAbortHandler)
			}
			return false
		}), []string{"a", "b", "empty"}, "1 of 3 contents went through the server"},
		"dies in the middle, twice": {newMemory(func(m *memory, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && r.ContentLength > 1000 && m.puts.Add(1) <= 2 {
				io.CopyN(io.Discard, r.Body, 100_000)
				panic(http.ErrAbortHandler)
			}
			return false
		}), all, ""},
		"is overloaded at first": {newMemory(func(m *memory, w http.ResponseWriter, _ *http.Request) bool {
			if m.puts.Add(1) <= 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			return false
		}), all, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := "http://127.0.0.1:9"
			if test.store != nil {
				s := httptest.NewServer(test.store)
				t.Cleanup(s.Close)
				url = s.URL
			}
			o := remote.Options{Pause: time.Millisecond}
			if strings.HasPrefix(name, "stuck") {
				o.Stall = 100 * time.Millisecond
			}
			r := start(t, following(t, url, o))
			r.worker("p", putting(t, url, o))
			r.schedule("one", "p", leaving)
			b := r.record(r.ended("one", 1)[0].UUID)
			paths, notes := located(t, b, url)
			if d := cmp.Diff(test.in, paths); d != "" || !strings.Contains(notes, test.note) || (notes == "") != (test.note == "") {
				t.Errorf("in the store (-want +got):\n%snotes: %q, want %q", d, notes, test.note)
			}
			r.exports(b)
		})
	}
}

// stick answers only when nobody waits any more. (Who has not read a request's body
// does not hear that its sender went.)
func stick(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(300 * time.Millisecond):
	}
}

// memory is a store in memory.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	puts  atomic.Int64 // for the tests
}

// newMemory makes one; what first does itself it reports.
func newMemory(first func(*memory, http.ResponseWriter, *http.Request) bool) http.HandlerFunc {
	m := &memory{files: map[string][]byte{}}
	return func(w http.ResponseWriter, r *http.Request) {
		if first(m, w, r) {
			return
		}
		if r.Method == http.MethodPut {
			m.keep(r, r.ContentLength)
			w.WriteHeader(http.StatusCreated)
			return
		}
		m.mu.Lock()
		file, ok := m.files[r.URL.Path]
		m.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	}
}

// keep keeps the beginning of what is sent.
func (m *memory) keep(r *http.Request, size int64) {
	file, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[r.URL.Path] = file[:size]
}

// TestStoreCut: a connection to nginx that breaks in the middle leaves nothing
// there, and the content comes in the end.
func TestStoreCut(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{})
	cutter := newCutter(t, strings.TrimSuffix(strings.TrimPrefix(real.URL, "http://"), "/artifacts"), 1<<20, 3)
	url := "http://" + cutter + "/artifacts"
	r := start(t, following(t, url, known(t, "")))
	r.worker("p", putting(t, url, known(t, "")))
	r.schedule("one", "p", leaving)
	b := r.record(r.ended("one", 1)[0].UUID)
	paths, notes := located(t, b, url)
	if d := cmp.Diff(all, paths); d != "" || notes != "" {
		t.Errorf("in the store (-want +got):\n%s%s", d, notes)
	}
	r.exports(b)
}

// newCutter is a way to address that resets the first connections after so many
// octets.
func newCutter(t *testing.T, address string, octets, times int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var cut atomic.Int64
	serve := func(in net.Conn) {
		defer in.Close()
		out, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer out.Close()
		serving.Go(func() {
			io.Copy(in, out)
			in.Close()
		})
		if _, err := io.CopyN(out, in, octets); err == nil && cut.Add(1) <= times {
			in.(*net.TCPConn).SetLinger(0)
			return
		}
		io.Copy(out, in)
	}
	serving.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
		if cut.Load() < times {
			t.Errorf("%d connections were cut", cut.Load())
		}
	})
	return l.Addr().String()
}

// TestStoreDamaged: what somebody did to the store is found when it is read.
func TestStoreDamaged(t *testing.T) {
	real := remotetest.Nginx(t, remotetest.Options{})
	o := known(t, "")
	r := start(t, following(t, real.URL, o))
	r.worker("p", putting(t, real.URL, o))
	r.schedule("one", "p", leaving)
	b := r.record(r.ended("one", 1)[0].UUID)
	c := job.ContentOf([]byte(large)).String()
	file := filepath.Join(real.Root, c[:2], c)
	for name, damage := range map[string]func() error{
		"other octets": func() error { return os.WriteFile(file, []byte(strings.ToUpper(large)), 0o644) },
		"cut":          func() error { return os.Truncate(file, 1000) },
		"gone":         func() error { return os.Remove(file) },
	} {
		if err := os.WriteFile(file, []byte(large), 0o644); err != nil {
			t.Fatal(err)
		}
		r.exports(b)
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := r.client().Export(t.Context(), b.UUID.String(), io.Discard); err == nil {
			t.Errorf("%s: exported", name)
		}
	}
	real.Stop()
	if err := r.client().Export(t.Context(), b.UUID.String(), io.Discard); err == nil || !strings.Contains(err.Error(), real.URL) {
		t.Errorf("store down: %v", err)
	}
}

// gate is a store in memory that takes nothing large before it is opened.
func gate(t *testing.T) (url string, asked <-chan struct{}, open func()) {
	t.Helper()
	waits, closed := make(chan struct{}, 100), make(chan struct{})
	s := httptest.NewServer(newMemory(func(_ *memory, _ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && r.ContentLength > 1000 {
			waits <- struct{}{}
			<-closed
		}
		return false
	}))
	open = sync.OnceFunc(func() { close(closed) })
	t.Cleanup(func() {
		open()
		s.Close()
	})
	return s.URL, waits, open
}

// TestStoreInterrupted: whatever happens while contents are being put, the build
// ends once, with all that it left.
func TestStoreInterrupted(t *testing.T) {
	for name, interrupt := range map[string]func(r *running, id string){
		"nothing": func(*running, string) {},
		"the server restarted": func(r *running, _ string) {
			r.halt()
			l, err := net.Listen("tcp", r.address)
			if err != nil {
				r.t.Fatal(err)
			}
			r.startOn(l)
		},
		"cancelled": func(r *running, id string) {
			if err := r.client().Cancel(r.t.Context(), id, "enough"); err != nil {
				r.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked, open := gate(t)
			o := remote.Options{Pause: time.Millisecond}
			r := start(t, following(t, url, o))
			r.worker("p", putting(t, url, o), func(c *worker.Config) { c.MaxDelay = 10 * time.Millisecond })
			r.schedule("one", "p", leaving)
			<-asked
			interrupt(r, r.status().Building[0].UUID.String())
			open()
			b := r.record(r.ended("one", 1)[0].UUID)
			paths, notes := located(t, b, url)
			if d := cmp.Diff(all, paths); d != "" || notes != "" {
				t.Errorf("in the store (-want +got):\n%s%s", d, notes)
			}
			r.exports(b)
		})
	}
}
