package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/journal"
	"builder/pkg/schedule"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// builtOnce is a build of a job that is queued, which left these files.
func (r *running) builtOnce(files ...wire.File) uuid.UUID {
	r.t.Helper()
	w := r.requested(wire.OwnVersion, "p")
	defer w.Close()
	id := w.begin().Build.UUID
	w.send(lines(id, 0, "printed"))
	w.send(wire.Finish{UUID: id, Result: success, Files: files})
	w.receive(wire.KindStored)
	return id
}

// outbox are the posts of a remote.
func (r *running) outbox(remote string) []wire.PostStatus {
	r.t.Helper()
	reply, err := r.client().Outbox(r.t.Context(), remote, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply.Posts
}

func (r *running) outboxChange(m wire.OutboxChange) wire.OutboxReply {
	r.t.Helper()
	reply, err := r.client().OutboxChange(r.t.Context(), m)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply
}

// TestParkedKept: what a remote refused stays refused through a restart, others of
// its job and other remotes go on, and it goes when somebody says so.
func TestParkedKept(t *testing.T) {
	f, other := newFrontend(t), newFrontend(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	r := start(t, func(c *server.Config) {
		c.Uploads = uploads(t, gone.URL+"/upload", f.URL+"/upload", other.URL+"/upload")
	})
	f.answer(http.StatusUnauthorized)
	r.schedule("one", "p", "x")
	first := r.builtOnce()
	wait(t, "the parking", func() bool { return r.log.count("build is parked", first.String(), `"level":"error"`) == 1 })
	wait(t, "the other", func() bool { return len(r.outbox(other.URL+"/upload")) == 0 })
	f.answer(http.StatusCreated)
	r.restart()
	r.execute("one")
	second := r.builtOnce()
	name := f.URL + "/upload"
	wait(t, "the second", func() bool { return len(r.outbox(name)) == 1 && len(r.outbox(other.URL+"/upload")) == 0 })
	if f.posts(second) != 1 || other.posts(first) != 1 || other.posts(second) != 1 {
		t.Error("a build was not sent, or twice")
	}

	parked := r.outbox(name)
	want := []wire.PostStatus{{UUID: first, Job: "one", Remote: name, Parked: "the remote answered 401 Unauthorized:"}}
	if diff := cmp.Diff(want, parked); diff != "" {
		t.Errorf("parked (-want +got):\n%s", diff)
	}
	if f.posts(first) != 1 {
		t.Errorf("a parked build was sent %d times", f.posts(first))
	}
	wantRemotes := []wire.RemoteStatus{
		{Name: gone.URL + "/upload", Configured: true, Waiting: 2},
		{Name: name, Configured: true, Parked: 1},
		{Name: other.URL + "/upload", Configured: true},
	}
	if diff := cmp.Diff(wantRemotes, r.status().Remotes); diff != "" {
		t.Errorf("remotes (-want +got):\n%s", diff)
	}
	if reply := r.outboxChange(wire.OutboxChange{Action: wire.OutboxRetry, What: first.String()[:20]}); reply.Changed != 2 {
		t.Errorf("%d posts are tried again, want 2", reply.Changed) // the dead one's too
	}
	wait(t, "the first", func() bool { return f.posts(first) == 2 && len(r.outbox(name)) == 0 })
	if reply := r.outboxChange(wire.OutboxChange{Action: wire.OutboxDrop, Remote: gone.URL + "/upload"}); reply.Changed != 2 || len(r.outbox("")) != 0 {
		t.Errorf("%d posts are dropped, left are %v", reply.Changed, r.outbox(""))
	}
	r.restart()
	if left := r.outbox(""); len(left) != 0 {
		t.Errorf("after a restart there are %+v", left)
	}
}

// TestOutboxOfOneRemote: what a release left behind that knew one remote without a
// name goes to the first one.
func TestOutboxOfOneRemote(t *testing.T) {
	f, other := newFrontend(t), newFrontend(t)
	r := start(t)
	r.schedule("one", "p", "x")
	id := r.builtOnce()
	r.halt()
	j, state, err := journal.Open(disk.OS{}, filepath.Join(r.config.Dir, "v1", "state"), schedule.New, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := schedule.RestoredUpload{Post: schedule.Post{UUID: id}}
	if err := state.Advance(e); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(schedule.Encode(e)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r.start() // still without an --upload
	if posts := r.outbox(""); len(posts) != 1 || posts[0].Remote != "" || posts[0].Job != "one" {
		t.Errorf("outbox: %+v", posts)
	}
	if r.log.count("builds wait for a remote that no --upload names") != 1 {
		t.Error("the log says nothing")
	}
	r.config.Uploads = uploads(t, f.URL+"/upload", other.URL+"/upload")
	r.restart()
	wait(t, "the upload", func() bool { return f.posts(id) == 1 && len(r.outbox("")) == 0 })
	if other.posts(id) != 0 {
		t.Error("the other remote has it, too")
	}
}

// hook writes an upload hook.
func (r *running) hook(name, script string) {
	r.t.Helper()
	dir := filepath.Join(r.config.ConfigDir, "upload-hooks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	temporary := filepath.Join(dir, "."+name)
	if err := os.WriteFile(temporary, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		r.t.Fatal(err)
	}
}

// TestHooks: they are told of each build that tells something of its job; a restart
// while one runs makes it run again; one that fails parks the build.
func TestHooks(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	before := r.builtOnce() // there are no hooks yet
	scratch := filepath.Join(r.config.Dir, "v1", "hooks")
	exists := func(name string) func() bool {
		return func() bool {
			_, err := os.Stat(filepath.Join(scratch, name))
			return err == nil
		}
	}
	r.hook("note", `cat > facts.new; cp "$9" binary; echo "$8" > eighth; mv facts.new facts; touch begun; test -e go || exec sleep 1000`)
	r.execute("one")
	id := r.builtOnce(wire.File{Path: "README", Mode: 0o644, Data: text("read")}, wire.File{Path: "bin/x", Mode: 0o755, Data: text("content")})
	wait(t, "the hook", exists("begun"))
	r.halt()
	if err := os.Rename(filepath.Join(scratch, "begun"), filepath.Join(scratch, "go")); err != nil {
		t.Fatal(err)
	}
	r.start()
	wait(t, "the hook, once more", func() bool { return exists("begun")() && len(r.outbox("upload-hooks")) == 0 })
	read := func(name string) string {
		octets, err := os.ReadFile(filepath.Join(scratch, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(octets)
	}
	var facts struct {
		UUID, Job string
		Main      struct{ Path, File string }
		Artifacts []struct{ Size int }
	}
	if err := json.Unmarshal([]byte(read("facts")), &facts); err != nil {
		t.Fatal(err)
	}
	if facts.UUID != id.String() || facts.Job != "one" || facts.Main.Path != "bin/x" || len(facts.Artifacts) != 2 || read("binary") != "content" {
		t.Errorf("facts: %s, binary %q", read("facts"), read("binary"))
	}
	if read("eighth") != "--main-binary-filepath=bin/x\n" {
		t.Errorf("the eighth argument is %s", read("eighth"))
	}

	r.hook("note", "echo out of order; exit 3")
	r.execute("one")
	failed := r.builtOnce()
	wait(t, "the parking", func() bool { return r.status().Remotes[0].Parked == 1 })
	if posts := r.outbox(""); len(posts) != 1 || posts[0].UUID != failed || posts[0].Parked != "hook note: exit status 3: out of order" {
		t.Errorf("outbox: %+v", posts)
	}
	if r.log.count(`"line":"out of order"`, failed.String()) != 1 {
		t.Error("what the hook printed is not in the log")
	}
	r.hook("note", "touch mended")
	r.outboxChange(wire.OutboxChange{Action: wire.OutboxRetry})
	wait(t, "the hook that was mended", func() bool { return exists("mended")() && len(r.outbox("")) == 0 })
	if strings.Contains(r.log.String(), `"hook":"note","build":"`+before.String()) {
		t.Error("a build that had no hooks was run through them")
	}

	// A build that tells nothing of its job is for nobody.
	r.hook("note", "exit 4")
	r.execute("one")
	w := r.requested(wire.OwnVersion, "p")
	w.begin()
	w.Close()
	r.ended("one", 4)
	if posts := r.outbox(""); len(posts) != 0 {
		t.Errorf("outbox: %+v", posts)
	}
}

// TestOutboxRefused: what can not be meant.
func TestOutboxRefused(t *testing.T) {
	f := newFrontend(t)
	f.answer(http.StatusForbidden)
	r := start(t, func(c *server.Config) { c.Uploads = uploads(t, f.URL+"/upload") })
	r.schedule("one", "p", "x")
	r.builtOnce()
	r.execute("one")
	r.builtOnce()
	wait(t, "both are parked", func() bool { return r.status().Remotes[0].Parked == 2 })
	for name, test := range map[string]struct {
		change wire.OutboxChange
		want   string
	}{
		"unknown remote": {wire.OutboxChange{Remote: "https://nowhere/"}, `no remote is called "https://nowhere/"; there are: ` + f.URL},
		"unknown build":  {wire.OutboxChange{What: "x"}, `no build in the outbox begins with "x"`},
		"drops unknown":  {wire.OutboxChange{Action: wire.OutboxDrop, What: "-"}, `no build in the outbox begins with "-"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.client().OutboxChange(t.Context(), test.change)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	c := r.config
	c.Dir, c.Uploads = t.TempDir(), uploads(t, "http://ann:hunter2@host/upload", "HTTP://HOST:80/upload")
	if s, err := server.Open(c); err == nil || !strings.Contains(err.Error(), "two upload URLs are http://host/upload") {
		t.Errorf("two of one name: %v, %v", s, err)
	}
}
