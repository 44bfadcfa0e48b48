package remote_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/login"
	"builder/pkg/remote"

	"github.com/google/go-cmp/cmp"
)

// TestPrefix: spellings of one URL are one store, and what is none is refused
// without being shown.
func TestPrefix(t *testing.T) {
	for raw, want := range map[string]string{
		"https://store.example.org/a/b":             "https://store.example.org/a/b",
		"HTTPS://ann:hunter2@Store.Example.Org:443": "https://store.example.org",
		"http://store.example.org:80//":             "http://store.example.org",
		"http://store.example.org:443/a%2Fb/":       "http://store.example.org:443/a%2Fb",
		"http://[::1]:8080/x":                       "http://[::1]:8080/x",
		"http://ann@[::1]/":                         "http://[::1]",
		"":                                          "",
		"store.example.org":                         "",
		"ftp://ann:hunter2@host/a":                  "",
		"http:///a":                                 "",
		"http://ann:hunter2/@host/a":                "",
		"http://ann:hunter2%zz@host/a":              "",
		"http://host/a?hunter2":                     "",
		"http://host/a#hunter2":                     "",
		"http://host/a?":                            "",
		"http://host/hunter2/../a":                  "",
		"http://host/hunter2//a":                    "",
		"http://host/" + strings.Repeat("a", 1000):  "",
		"http://ann:hunter2@host:port/a":            "",
		"http://ann:hunter2@host/a\n":               "",
	} {
		s, err := remote.New(raw, remote.Options{})
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken", raw)
		case want == "" && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%q is shown: %v", raw, err)
		case want != "" && err != nil:
			t.Errorf("%q: %v", raw, err)
		case want != "" && s.Prefix() != want:
			t.Errorf("%q is %q, want %q", raw, s.Prefix(), want)
		}
	}
}

// TestLogin: which login is sent to a store.
func TestLogin(t *testing.T) {
	sent := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		sent <- user + ":" + password
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	for name, test := range map[string]struct{ url, book, want string }{
		"none":                {url: server.URL, want: ":"},
		"in the URL":          {url: "http://ann:p%40ss@" + host, book: "bob:other", want: "ann:p@ss"},
		"a user only":         {url: "http://ann@" + host, book: "bob:other", want: "ann:"},
		"of a line for it":    {url: server.URL, book: "z:z\nhttp://other x:y\n" + server.URL + "/ bob:secret", want: "bob:secret"},
		"of the one for all":  {url: server.URL + "/a", book: server.URL + " bob:secret\nz:z", want: "z:z"},
		"of one without, too": {url: server.URL + "/a", book: server.URL + " bob:secret", want: ":"},
	} {
		t.Run(name, func(t *testing.T) {
			logins, err := login.Parsed(test.book)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, test.url, remote.Options{Logins: logins})
			if there, err := s.Has(t.Context(), job.ContentOf(nil)); there || err != nil {
				t.Errorf("has: %v, %v", there, err)
			}
			if got := <-sent; got != test.want {
				t.Errorf("sent %q, want %q", got, test.want)
			}
		})
	}
}

// TestStores: each is found by its prefix, none twice.
func TestStores(t *testing.T) {
	stores, err := remote.NewStores([]string{"http://a/x", "https://b"}, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stores.Close)
	if d := cmp.Diff([]string{"http://a/x", "https://b"}, stores.Prefixes()); d != "" {
		t.Errorf("prefixes (-want +got):\n%s", d)
	}
	if !stores.Follows("https://b") || stores.Follows("http://a") || stores.Follows("") {
		t.Error("another store is followed")
	}
	if _, err := stores.Has(t.Context(), "http://a", job.ContentOf(nil)); err == nil {
		t.Error("another store is asked")
	}
	if _, err := stores.Open(t.Context(), "http://a", job.ContentOf(nil), 0); err == nil {
		t.Error("another store is read")
	}
	if _, err := remote.NewStores([]string{"http://a", "http://A:80/"}, remote.Options{}); err == nil {
		t.Error("one store is named twice")
	}
}

// TestAuthorities: a file of them that is not there is an error.
func TestAuthorities(t *testing.T) {
	if _, err := remote.New("https://a", remote.Options{CAFile: filepath.Join(t.TempDir(), "ca")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestTries: how often is tried what fails.
func TestTries(t *testing.T) {
	for name, test := range map[string]struct {
		code int // of a PUT; 0 breaks the connection
		puts int64
	}{
		"breaks":            {0, 5},
		"overloaded":        {http.StatusServiceUnavailable, 5},
		"too many":          {http.StatusTooManyRequests, 5},
		"fails by itself":   {http.StatusInternalServerError, 2},
		"full":              {http.StatusInsufficientStorage, 1},
		"forbidden":         {http.StatusForbidden, 1},
		"no such method":    {http.StatusMethodNotAllowed, 1},
		"elsewhere":         {http.StatusFound, 1},
		"no collection":     {http.StatusConflict, 2}, // before and after MKCOL
		"a code of its own": {599, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var puts atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPut {
					http.NotFound(w, r)
					return
				}
				puts.Add(1)
				if test.code == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.code)
			}))
			t.Cleanup(server.Close)
			s := open(t, server.URL, remote.Options{Pause: time.Microsecond})
			if err := put(t, s, "text"); err == nil || !strings.Contains(err.Error(), server.URL) {
				t.Errorf("put: %v", err)
			}
			if n := puts.Load(); n != test.puts {
				t.Errorf("tried %d times, want %d", n, test.puts)
			}
		})
	}
}

// TestRead: answers that are not the content.
func TestRead(t *testing.T) {
	const text = "a content"
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		opens  bool
		told   string
		offset int64
	}{
		"unauthorized": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, false, "401", 0},
		"a part":       {func(w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent) }, false, "206", 0},
		"too long":     {func(w http.ResponseWriter) { io.WriteString(w, text+text) }, false, "expected 9", 0},
		"too short, and says so": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, text[:3])
		}, true, "unexpected EOF", 0},
		"too short, in chunks": {func(w http.ResponseWriter) {
			io.WriteString(w, text[:3])
			w.(http.Flusher).Flush()
		}, true, "unexpected EOF", 0},
		"stuck": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, text[:3])
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}, true, "no octet moved", 0},
		"stuck at once": {func(http.ResponseWriter) { time.Sleep(time.Second) }, false, "no octet moved", 0},
		"longer, in chunks": {func(w http.ResponseWriter) { // what is too much is not read
			w.(http.Flusher).Flush()
			io.WriteString(w, text+text)
		}, true, "", 0},
		"the rest":                   {part("bytes 4-8/9", text[4:]), true, "", 4},
		"another part":               {part("bytes 0-4/9", text[:5]), false, `range "bytes 0-4/9"`, 4},
		"a part of something longer": {part("bytes 4-8/10", text[4:]), false, "expected 9", 4},
		"the rest, too short":        {part("bytes 4-8/9", text[5:]), false, "expected 5", 4},
		"shorter than the offset": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes */3")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, false, "expected 9", 4},
		"no parts": {func(w http.ResponseWriter) { io.WriteString(w, text) }, true, "", 4},
		"no parts, and it breaks": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, text[:3])
		}, false, "unexpected EOF", 4},
		"nothing of it": {func(w http.ResponseWriter) { io.WriteString(w, text) }, true, "", 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.answer(w) }))
			t.Cleanup(server.Close)
			s := open(t, server.URL, remote.Options{Stall: 100 * time.Millisecond})
			in, err := s.Open(t.Context(), job.ContentOf([]byte(text)), test.offset)
			if opens := err == nil; opens != test.opens {
				t.Fatalf("opening: %v", err)
			}
			if err == nil {
				var got []byte
				got, err = io.ReadAll(in)
				in.Close()
				if rest := text[test.offset:]; !strings.HasPrefix(rest, string(got)) || err == nil && len(got) != len(rest) {
					t.Errorf("read %q", got)
				}
			}
			if (err == nil) != (test.told == "") || err != nil && !strings.Contains(err.Error(), test.told) {
				t.Errorf("%v, want %q", err, test.told)
			}
		})
	}
}

// part answers with a part of a content.
func part(which, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Range", which)
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, text)
	}
}

// TestCancelled: who does not want to wait any more does not.
func TestCancelled(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	s := open(t, server.URL, remote.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	c := job.ContentOf([]byte("x"))
	if _, err := s.Put(ctx, c, false, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }); !errors.Is(err, enough) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Open(ctx, c, 0); !errors.Is(err, enough) {
		t.Errorf("open: %v", err)
	}
	if _, err := s.Has(ctx, c); !errors.Is(err, enough) {
		t.Errorf("has: %v", err)
	}
}
