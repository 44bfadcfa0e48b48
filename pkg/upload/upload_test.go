package upload_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/upload"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// quick makes tries follow each other at once.
func quick(s *setup) {
	s.limits = upload.Limits{Shortest: time.Millisecond, Longest: time.Millisecond}
}

// setup is what an outbox is made of, and an option changes it.
type (
	setup struct {
		limits   upload.Limits
		frontend upload.FrontendOptions
	}
	option func(*setup)
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// builds are a Journal in memory, and where the builds come from.
type builds struct {
	mu        sync.Mutex
	content   map[uuid.UUID][]byte
	write     func(w io.Writer, try int) error // in place of content
	size      int64                            // in place of the content's
	openErrs  int                              // of so many calls of Open
	recordErr int                              // of so many calls of Delivered and Parked
	opened    int
	writing   int
	order     []uuid.UUID
	delivered chan uuid.UUID
	parked    chan string // reasons
}

func newBuilds() *builds {
	return &builds{content: make(map[uuid.UUID][]byte), delivered: make(chan uuid.UUID, 1000), parked: make(chan string, 1000)}
}

// add makes a build with some content.
func (b *builds) add(content []byte) uuid.UUID {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := uuid.New()
	b.content[id] = content
	return id
}

func (b *builds) Open(id uuid.UUID) (int64, func(io.Writer) error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	if b.opened <= b.openErrs {
		return 0, nil, errors.New("disk is on fire")
	}
	content, size, try := b.content[id], b.size, b.opened
	if size == 0 {
		size = int64(len(content))
	}
	b.writing++
	return size, func(w io.Writer) error {
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.writing--
		}()
		if b.write != nil {
			return b.write(w, try)
		}
		_, err := w.Write(content)
		return err
	}, nil
}

func (b *builds) Delivered(ctx context.Context, id uuid.UUID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.recordErr > 0 {
		b.recordErr--
		return errors.New("journal is read-only")
	}
	b.order = append(b.order, id)
	b.delivered <- id
	return nil
}

func (b *builds) Parked(_ context.Context, _ uuid.UUID, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.recordErr > 0 {
		b.recordErr--
		return errors.New("journal is read-only")
	}
	b.parked <- reason
	return nil
}

// logs is a log that can be waited for.
type logs struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func newLogs() *logs { return &logs{lines: make(chan string, 10_000)} }

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines <- string(p)
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run starts an outbox; stop ends it, and checks that nothing of it is left.
func run(t *testing.T, url string, b *builds, options ...option) (o *upload.Outbox, logged *logs, stop func()) {
	t.Helper()
	logged = newLogs()
	var s setup
	for _, change := range options {
		change(&s)
	}
	frontend, err := upload.NewFrontend(url, s.frontend)
	must(t, err)
	o = upload.New(frontend.Name(), frontend.Sender(b.Open), b, s.limits, zerolog.New(logged))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.writing != 0 {
			t.Errorf("%d contents are still being written", b.writing)
		}
	})
	t.Cleanup(stop)
	return o, logged, stop
}

// frontend remembers what it was sent, and answers with one status after the
// other, the last one for ever.
type frontend struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int
	requests []request
}

type request struct {
	Method, URI, User, Password, Type string
	Length                            int64
	Body                              string
}

func newFrontend(t *testing.T, statuses ...int) *frontend {
	f := &frontend{statuses: statuses}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		return
	}
	user, password, _ := r.BasicAuth()
	f.requests = append(f.requests, request{
		r.Method, r.RequestURI, user, password,
		r.Header.Get("Content-Type"), r.ContentLength, string(body),
	})
	status := f.statuses[0]
	if len(f.statuses) > 1 {
		f.statuses = f.statuses[1:]
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "that is %d", status)
}

func (f *frontend) seen() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// with puts a user and a password into a URL.
func with(credentials, url string) string {
	return strings.Replace(url, "://", "://"+credentials+"@", 1)
}

func TestDelivered(t *testing.T) {
	for _, test := range []struct {
		name      string
		statuses  []int
		recordErr int
		tries     int
	}{
		{"stored", []int{201}, 0, 1},
		{"stored, older builder-web", []int{200}, 0, 1},
		{"any other good answer", []int{204}, 0, 1},
		{"was there", []int{409}, 0, 1},
		{"server error, then stored", []int{500, 201}, 0, 2},
		{"many errors", []int{500, 502, 503, 504, 404, 429, 417, 201}, 0, 8},
		{"redirects", []int{301, 302, 303, 307, 308, 201}, 0, 6},
		{"not sent again for the journal's sake", []int{201, 500}, 2, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFrontend(t, test.statuses...)
			b := newBuilds()
			b.recordErr = test.recordErr
			id := b.add([]byte("the result"))
			o, _, stop := run(t, with("ann:s%3Acret", f.URL)+"/up%20load?x=y", b, quick)
			o.Add(id, "hello")
			o.Add(id, "hello")
			if got := <-b.delivered; got != id {
				t.Errorf("delivered %s, want %s", got, id)
			}
			stop()
			want := slices.Repeat([]request{{
				"POST", "/up%20load?x=y", "ann", "s:cret", "application/octet-stream", 10, "the result",
			}}, test.tries)
			if diff := cmp.Diff(want, f.seen()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]uuid.UUID{id}, b.order); diff != "" {
				t.Error(diff)
			}
			if left := o.Status(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestWithoutCredentials(t *testing.T) {
	f := newFrontend(t, 201)
	b := newBuilds()
	o, _, stop := run(t, f.URL, b)
	o.Add(b.add([]byte("the result")), "hello")
	<-b.delivered
	stop()
	want := []request{{"POST", "/", "", "", "application/octet-stream", 10, "the result"}}
	if diff := cmp.Diff(want, f.seen()); diff != "" {
		t.Error(diff)
	}
}

func TestContent(t *testing.T) {
	whole := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	write := func(part []byte, err error) func(io.Writer, int) error {
		return func(w io.Writer, try int) error {
			if try > 1 {
				part, err = whole, nil
			}
			if _, werr := w.Write(part); werr != nil {
				return werr
			}
			return err
		}
	}
	for _, test := range []struct {
		name     string
		openErrs int
		write    func(io.Writer, int) error
		want     string
	}{
		{"can not be opened", 1, nil, "reading the result: disk is on fire"},
		{"can not be read to its end", 0, write(whole[:100_000], errors.New("bad sector")), "reading the result: bad sector"},
		{"shorter", 0, write(whole[:200_000], nil), "reading the result: 262144 octets were announced, and 62144 are missing"},
		{"empty", 0, write(nil, nil), "reading the result: 262144 octets were announced, and 262144 are missing"},
		{"longer", 0, write(append(whole, 'x'), nil), "reading the result: it is longer than announced"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFrontend(t, 201)
			b := newBuilds()
			b.openErrs, b.write = test.openErrs, test.write
			id := b.add(whole)
			o, log, stop := run(t, f.URL, b, quick)
			o.Add(id, "hello")
			<-b.delivered
			stop()
			if line := <-log.lines; !strings.Contains(line, test.want) || !strings.Contains(line, `"level":"error"`) {
				t.Errorf("log %s, want an error with %q", line, test.want)
			}
			if seen := f.seen(); len(seen) != 1 || seen[0].Body != string(whole) {
				t.Errorf("%d whole requests, want one with the content", len(seen))
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	target := newFrontend(t, 200)
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			f := httptest.NewServer(http.RedirectHandler(target.URL+"/elsewhere", status))
			defer f.Close()
			b := newBuilds()
			o, log, stop := run(t, f.URL, b)
			o.Add(b.add([]byte("x")), "hello")
			line := <-log.lines
			stop()
			if !strings.Contains(line, target.URL+"/elsewhere") {
				t.Errorf("the log does not name the target: %s", line)
			}
		})
	}
	if seen := target.seen(); len(seen) > 0 {
		t.Errorf("the target was asked: %v", seen)
	}
}

// TestCertificate: only who is known is told the password.
func TestCertificate(t *testing.T) {
	asked := make(chan struct{}, 10)
	f := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.StartTLS()
	defer f.Close()
	b := newBuilds()
	o, logged, stop := run(t, with("ann:secret", f.URL), b)
	o.Add(b.add([]byte("x")), "hello")
	line := <-logged.lines
	stop()
	if !strings.Contains(line, "certificate") || len(asked) > 0 {
		t.Errorf("asked %d times, log %s", len(asked), line)
	}

	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}), 0o600))
	ca, err := upload.ReadCA(file)
	must(t, err)
	o, _, stop = run(t, with("ann:secret", f.URL), b, func(s *setup) { s.frontend.CA = ca })
	o.Add(b.add([]byte("x")), "hello")
	<-b.delivered
	stop()
	for name, text := range map[string]string{"empty": "", "no certificate": "hello\n"} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if _, err := upload.ReadCA(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
