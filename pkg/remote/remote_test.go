package remote_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"builder/pkg/job"
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

// TestCredentials: which ones are sent to a store, and what is told of a file that
// has none.
func TestCredentials(t *testing.T) {
	sent := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		sent <- user + ":" + password
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	for name, test := range map[string]struct{ url, file, want, refused string }{
		"none":                  {url: server.URL, want: ":"},
		"in the URL":            {url: "http://ann:p%40ss@" + host, file: "bob:other", want: "ann:p@ss"},
		"a user only":           {url: "http://ann@" + host, file: "bob:other", want: "ann:"},
		"of a file":             {url: server.URL, file: "\n# comment\n bob:p:ass word \n", want: "bob:p:ass word"},
		"of a line for it":      {url: server.URL, file: "http://other x:y\n" + server.URL + "/ bob:secret\nz:z", want: "bob:secret"},
		"of a line for all":     {url: server.URL + "/a", file: server.URL + " bob:secret\nz:z", want: "z:z"},
		"a file without a user": {url: server.URL, file: "hunter2", refused: "line 1"},
		"an empty file":         {url: server.URL, file: "\n", refused: "no line"},
		"a bad URL in a line":   {url: server.URL, file: "a:b\nhttp://:1/ ann:hunter2", refused: "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			file := ""
			if test.file != "" {
				file = filepath.Join(t.TempDir(), "auth")
				if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			credentials, err := remote.ReadCredentials(file, "")
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%v, want %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, test.url, remote.Options{Credentials: credentials})
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
	if _, err := stores.Open(t.Context(), "http://a", job.ContentOf(nil)); err == nil {
		t.Error("another store is read")
	}
	if _, err := remote.NewStores([]string{"http://a", "http://A:80/"}, remote.Options{}); err == nil {
		t.Error("one store is named twice")
	}
}

// TestCA: a file without certificates is refused.
func TestCA(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca")
	if _, err := remote.New("https://a", remote.Options{CAFile: file}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.New("https://a", remote.Options{CAFile: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("another file: %v", err)
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
	}{
		"unauthorized": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, false, "401"},
		"a part":       {func(w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent) }, false, "206"},
		"too long":     {func(w http.ResponseWriter) { io.WriteString(w, text+text) }, false, "expected 9"},
		"too short, and says so": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, text[:3])
		}, true, "unexpected EOF"},
		"too short, in chunks": {func(w http.ResponseWriter) {
			io.WriteString(w, text[:3])
			w.(http.Flusher).Flush()
		}, true, "unexpected EOF"},
		"stuck": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, text[:3])
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}, true, "no octet moved"},
		"stuck at once": {func(http.ResponseWriter) { time.Sleep(time.Second) }, false, "no octet moved"},
		"longer, in chunks": {func(w http.ResponseWriter) { // what is too much is not read
			w.(http.Flusher).Flush()
			io.WriteString(w, text+text)
		}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.answer(w) }))
			t.Cleanup(server.Close)
			s := open(t, server.URL, remote.Options{Stall: 100 * time.Millisecond})
			in, err := s.Open(t.Context(), job.ContentOf([]byte(text)))
			if opens := err == nil; opens != test.opens {
				t.Fatalf("opening: %v", err)
			}
			if err == nil {
				var got []byte
				got, err = io.ReadAll(in)
				in.Close()
				if !strings.HasPrefix(text, string(got)) {
					t.Errorf("read %q", got)
				}
			}
			if (err == nil) != (test.told == "") || err != nil && !strings.Contains(err.Error(), test.told) {
				t.Errorf("%v, want %q", err, test.told)
			}
		})
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
	if _, err := s.Open(ctx, c); !errors.Is(err, enough) {
		t.Errorf("open: %v", err)
	}
	if _, err := s.Has(ctx, c); !errors.Is(err, enough) {
		t.Errorf("has: %v", err)
	}
}
