package upload_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/upload"
)

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct{ name, url string }{
		{"nothing", ""},
		{"no scheme", "ann:hunter2@host/upload"},
		{"only a host", "host"},
		{"another scheme", "ftp://ann:hunter2@host/upload"},
		{"no host", "http:///upload"},
		{"no host, with a port", "http://ann:hunter2@:80/upload"},
		{"a bare slash in the password", "http://ann:hunter2/hunter2@host/upload"},
		{"digits before a bare slash", "http://ann:42/hunter2@host/upload"},
		{"a bare question mark", "http://ann:42?hunter2@host/upload"},
		{"a bare number sign", "http://ann:42#hunter2@host/upload"},
		{"a bare percent sign", "http://ann:hunter2%zz@host/upload"},
		{"a bad port", "http://ann:hunter2@host:http/upload"},
		{"a control character", "http://ann:hunter2@host/upload\n"},
		{"an octet that is not allowed", "http://ann:hunter2 hunter2@host/upload"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := upload.NewFrontend(test.url, upload.FrontendOptions{})
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "42") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

// A remote that sends everything back, and one that is not there.
func TestSecretIsNeverShown(t *testing.T) {
	const password = "p@ss w/rd%?\n\"x"
	echo := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		user, pass, _ := r.BasicAuth()
		if pass != password {
			t.Errorf("got password %q", pass)
		}
		w.Header().Set("Location", "http://"+user+":p%40ss%20w%2Frd%25%3F%0A%22x@host/")
		w.WriteHeader(map[string]int{"/moved": 302, "/no": 401, "/broken": 500, "/good": 200}[r.URL.Path])
		io.WriteString(w, r.Header.Get("Authorization")+" is "+user+" with "+pass)
	}
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	gone := httptest.NewServer(http.HandlerFunc(echo))
	gone.Close()
	for _, url := range []string{
		server.URL + "/moved", server.URL + "/no", server.URL + "/broken", server.URL + "/good",
		gone.URL, "http://host.invalid/", strings.Replace(server.URL, "http:", "https:", 1),
	} {
		t.Run(url, func(t *testing.T) {
			b := newBuilds()
			o, logged, stop := run(t, with("ann:p%40ss%20w%2Frd%25%3F%0A%22x", url), b)
			o.Add(b.add([]byte("x")), "hello")
			text := <-logged.lines
			stop()
			for _, item := range o.Status() {
				text += item.Err
			}
			for range len(b.parked) {
				text += <-b.parked
			}
			for _, secret := range []string{
				password, "p@ss", "p%40ss", "w%2Frd", "w/rd",
				base64.StdEncoding.EncodeToString([]byte("ann:" + password)),
			} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in %s", secret, text)
				}
			}
		})
	}
}

// A file of passwords: what is in it reaches only the frontend that it is for.
func TestAuth(t *testing.T) {
	f := newFrontend(t, 201)
	write := func(t *testing.T, text string, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "auth")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		must(t, os.Chmod(file, mode))
		return file
	}
	t.Run("used", func(t *testing.T) {
		text := "# passwords\n\nhttps://other.example.org/upload bob:no\r\n" + f.URL + "/upload \tann:pass:wor d \n"
		auth, err := upload.ReadAuth(write(t, text, 0o640))
		must(t, err)
		b := newBuilds()
		o, _, stop := run(t, f.URL+"/upload?key=value", b, func(s *setup) { s.frontend.Auth = auth })
		o.Add(b.add([]byte("x")), "hello")
		<-b.delivered
		stop()
		if seen := f.seen(); len(seen) != 1 || seen[0].User != "ann" || seen[0].Password != "pass:wor d " {
			t.Errorf("seen: %+v", seen)
		}
	})
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"everybody may read it", "", 0o604, "chmod 600"},
		{"only a URL", "https://host/upload\n", 0o600, "line 1: there is no USER:PASSWORD"},
		{"no password", "\nhttps://host/upload hunter2\n", 0o600, "line 2: there is no USER:PASSWORD"},
		{"no user", "https://host/upload :hunter2\n", 0o600, "there is no USER:PASSWORD"},
		{"no URL", "ann:hunter2\n", 0o600, "not of the form"},
		{"another scheme", "ftp://host ann:hunter2\n", 0o600, "not of the form"},
		{"a user in the URL", "https://ann:hunter2@host/upload ann:hunter2\n", 0o600, "the URL has a user"},
		{"twice", "https://host/upload ann:hunter2\nHTTPS://HOST:443/upload ann:hunter2\n", 0o600, "already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := upload.ReadAuth(write(t, test.text, test.mode))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := upload.ReadAuth(t.TempDir()); err == nil {
		t.Error("a directory is read")
	}
}

// The name of a remote stays when its password changes, and has no secret.
func TestName(t *testing.T) {
	for url, want := range map[string]string{
		"https://ann:secret@Builds.example.org:443/upload?token=x": "https://builds.example.org/upload",
		"HTTP://host:80":           "http://host/",
		"http://host:8080/a%20b/":  "http://host:8080/a%20b/",
		"https://[2001:DB8::1]/up": "https://[2001:db8::1]/up",
	} {
		f, err := upload.NewFrontend(url, upload.FrontendOptions{})
		must(t, err)
		if got := f.Name(); got != want {
			t.Errorf("%s is called %s, want %s", url, got, want)
		}
	}
}
