package upload_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"builder/pkg/login"
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

// A login of a file reaches the frontend that it is for.
func TestLogin(t *testing.T) {
	f := newFrontend(t, 201)
	logins, err := login.Parsed("https://other.example.org/upload bob:no\n" + f.URL + "/upload ann:pass:wor d ")
	must(t, err)
	b := newBuilds()
	o, _, stop := run(t, f.URL+"/upload?key=value", b, func(s *setup) { s.frontend.Logins = logins })
	o.Add(b.add([]byte("x")), "hello")
	<-b.delivered
	stop()
	if seen := f.seen(); len(seen) != 1 || seen[0].User != "ann" || seen[0].Password != "pass:wor d " {
		t.Errorf("seen: %+v", seen)
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
