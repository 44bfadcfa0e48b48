package login_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"builder/pkg/login"

	"github.com/google/go-cmp/cmp"
)

// TestParse: spellings of one server, and what is refused without being shown.
func TestParse(t *testing.T) {
	for raw, want := range map[string]string{
		"https://store.example.org/a/b":             "https://store.example.org",
		"HTTPS://ann:hunter2@Store.Example.Org:443": "https://store.example.org",
		"http://store.example.org:443/":             "http://store.example.org:443",
		"http://host:/x":                            "http://host",
		"http://[2001:DB8::1]:8080/x?y":             "http://[2001:db8::1]:8080",
		"":                                          "",
		"host":                                      "",
		"ann:hunter2@host/upload":                   "",
		"ftp://ann:hunter2@host/a":                  "",
		"http:///a":                                 "",
		"http://ann:hunter2@:80/a":                  "",
		"http://ann:hunter2/hunter2@host/a":         "",
		"http://ann:42?hunter2@host/a":              "",
		"http://ann:42#hunter2@host/a":              "",
		"http://ann:hunter2%zz@host/a":              "",
		"http://ann:hunter2@host:port/a":            "",
		"http://ann:hunter2@host:65536/a":           "",
		"http://ann:hunter2@host:0/a":               "",
		"http://ann:hunter2@host/a\n":               "",
	} {
		a, err := login.Parse(raw)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken", raw)
		case want == "" && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "42")):
			t.Errorf("%q is shown: %v", raw, err)
		case want != "" && err != nil:
			t.Errorf("%q: %v", raw, err)
		case want != "" && (a.Origin() != want || a.URL.User != nil):
			t.Errorf("%q is of %q, want %q", raw, a.Origin(), want)
		}
	}
}

// sent is what a request to the URL shows.
func sent(t *testing.T, b login.Book, raw string) string {
	t.Helper()
	a, err := login.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	req := &http.Request{Header: http.Header{}}
	b.Of(a).Set(req)
	if user, password, ok := req.BasicAuth(); ok {
		return user + ":" + password
	}
	return ""
}

// TestBook: each URL gets its own login, else the one for all, else none.
func TestBook(t *testing.T) {
	b, err := login.Parsed("# passwords\n\nhttps://one.example.org/upload/ \tbob:pass:wor d \r\n  \nHTTP://two:80 bob:two\n ann:all\n")
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"https://one.example.org/upload?key=value": "bob:pass:wor d ",
		"https://ONE.example.org:443/upload/":      "bob:pass:wor d ",
		"https://one.example.org/other":            "ann:all",
		"http://two/":                              "bob:two",
		"http://eve:in%20it@two/":                  "eve:in it",
		"http://eve@two/":                          "eve:",
	} {
		if got := sent(t, b, raw); got != want {
			t.Errorf("%s gets %q, want %q", raw, got, want)
		}
	}
	if got := sent(t, login.Book{}, "http://two/"); got != "" {
		t.Errorf("an empty book has %q", got)
	}
	if d := cmp.Diff([]string{"http://two"}, b.Unused([]string{"https://one.example.org/upload", "%"})); d != "" {
		t.Errorf("unused (-want +got):\n%s", d)
	}
}

// TestRefused: what is told of lines and files that are none.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"everybody may read it", "", 0o604, "chmod 600"},
		{"everybody may write it", "", 0o602, "chmod 600"},
		{"empty", "# nothing\n", 0o600, "no line"},
		{"only a URL", "https://host/upload\n", 0o600, "line 1: there is no USER:PASSWORD"},
		{"no password", "\nhttps://host/upload hunter2\n", 0o600, "line 2: there is no USER:PASSWORD"},
		{"no user", "https://host/upload :hunter2\n", 0o600, "there is no USER:PASSWORD"},
		{"a password alone", "hunter2\n", 0o600, "line 1: there is no USER:PASSWORD"},
		{"another scheme", "ftp://host ann:hunter2\n", 0o600, "http://"},
		{"a bad URL", "a:b\nhttp://:1/ ann:hunter2", 0o600, "line 2"},
		{"a user in the URL", "https://ann:hunter2@host/upload ann:hunter2\n", 0o600, "the URL has a user"},
		{"twice", "https://host/upload ann:hunter2\nHTTPS://HOST:443/upload/ ann:hunter2\n", 0o600, "line 2: there is a line for https://host/upload already"},
		{"twice for all", "ann:hunter2\nbob:hunter2", 0o600, "line 2: there is a line without a URL already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "auth")
			if err := errors.Join(os.WriteFile(file, []byte(test.text), 0o600), os.Chmod(file, test.mode)); err != nil {
				t.Fatal(err)
			}
			_, err := login.Load(file, "BUILDER_TEST_AUTH")
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := login.Load(t.TempDir(), "BUILDER_TEST_AUTH"); err == nil {
		t.Error("a directory is read")
	}
}

// TestLoad: a file counts, else the environment, and what that has is taken out of it.
func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, []byte("ann:file"), 0o640); err != nil {
		t.Fatal(err)
	}
	const variable = "BUILDER_TEST_AUTH"
	for _, test := range []struct{ file, text, want string }{{file, "bob:environment", "ann:file"}, {"", "bob:environment", "bob:environment"}, {"", "", ""}} {
		t.Setenv(variable, test.text)
		b, err := login.Load(test.file, variable)
		if err != nil {
			t.Fatal(err)
		}
		if got := sent(t, b, "http://host"); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
		if _, there := os.LookupEnv(variable); there {
			t.Error("the environment still has it")
		}
	}
	t.Setenv(variable, "hunter2")
	if _, err := login.Load("", variable); err == nil || !strings.Contains(err.Error(), variable+": line 1") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

func TestSecrets(t *testing.T) {
	a, err := login.Parse("http://ann:p%40ss%20w%2Frd@host/")
	if err != nil {
		t.Fatal(err)
	}
	got := login.Book{}.Of(a).Secrets()
	slices.Sort(got)
	want := []string{"YW5uOnBAc3Mgdy9yZA==", "p%40ss%20w%2Frd", "p%40ss+w%2Frd", "p@ss w/rd", "p@ss%20w%2Frd"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("secrets (-want +got):\n%s", d)
	}
}

// TestAuthorities: no file, a missing one, and one without certificates.
func TestAuthorities(t *testing.T) {
	if pool, err := login.Authorities(""); pool != nil || err != nil {
		t.Errorf("no file: %v, %v", pool, err)
	}
	file := filepath.Join(t.TempDir(), "ca")
	if _, err := login.Authorities(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := login.Authorities(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("another file: %v", err)
	}
}
