package server_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// built lets a worker build the job with these artifacts.
func (r *running) built(name string, result job.Result, files ...wire.File) uuid.UUID {
	r.t.Helper()
	if len(r.builds(name)) == 0 {
		r.schedule(name, "p", "script of "+name)
	} else {
		r.execute(name)
	}
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	w.send(wire.Finish{UUID: id, Result: result, Files: files})
	w.receive(wire.KindStored)
	return id
}

func files(texts ...string) []wire.File {
	var all []wire.File
	for _, t := range texts {
		path, octets, _ := strings.Cut(t, "=")
		all = append(all, wire.File{Path: path, Mode: 0o755, Data: text(octets)})
	}
	return all
}

// taken is what a client fetched, in memory.
type taken struct {
	octets map[string]*bytes.Buffer
	ended  map[string]error
	lost   int
}

type slot struct{ *bytes.Buffer }

func (slot) Read([]byte) (int, error) { return 0, io.EOF }

func (s slot) Restart() error {
	s.Reset()
	return nil
}

// fetch asks for artifacts of a build that is described.
func fetch(t testing.TB, c *client.Client, b job.Build) (taken, error) {
	got := taken{octets: map[string]*bytes.Buffer{}, ended: map[string]error{}}
	err := c.Fetch(t.Context(), b.UUID, b.Artifacts, client.Receiver{
		Begin: func(a job.Artifact) (client.Partial, error) {
			got.octets[a.Path] = &bytes.Buffer{}
			return slot{got.octets[a.Path]}, nil
		},
		End: func(a job.Artifact, _ client.Partial, err error) error {
			got.ended[a.Path] = err
			return nil
		},
		Lost: func(error, time.Duration) error { got.lost++; return nil },
	})
	return got, err
}

func describe(t testing.TB, c *client.Client, what string) job.Build {
	t.Helper()
	b, err := c.Describe(t.Context(), what, "")
	if err != nil {
		t.Fatalf("describing %q: %v", what, err)
	}
	return b
}

// cutter accepts connections that break after some octets, until it is told not to.
type cutter struct {
	net.Listener
	cut   func() int
	whole atomic.Bool
}

func (c *cutter) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err == nil && !c.whole.Load() {
		nc = &breaking{Conn: nc, left: c.cut()}
	}
	return nc, err
}

// breaking is a connection that ends after so many octets were written.
type breaking struct {
	net.Conn
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p[:min(len(p), b.left)])
	b.left -= n
	if n < len(p) {
		return n, errors.Join(err, b.Close(), net.ErrClosed)
	}
	return n, err
}

var fetchSeed = flag.Uint64("fetch-seed", 0, "where TestFetchCut cuts; 0 draws it")

// TestFetchCut: connections break at random places; each octet comes once.
func TestFetchCut(t *testing.T) {
	seed := *fetchSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -fetch-seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := configure(t)
	t.Cleanup(r.halt)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, cut: func() int { return 500 + random.IntN(200_000)*random.IntN(10) }}
	c.whole.Store(true)
	r.startOn(c)
	large := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{}).Read(large)
	artifacts := []wire.File{{Path: "large", Data: wire.Blob{Data: large}}}
	for i := range 100 {
		artifacts = append(artifacts, files(fmt.Sprintf("d/f%d=%d", i, i))...)
	}
	id := r.built("one", success, artifacts...)
	b := describe(t, r.client(), id.String())
	c.whole.Store(false)
	var got taken
	for range 100 { // the first connection is not made again
		asking := client.New(r.address, client.Options{Protocol: wire.OwnVersion, Pause: time.Millisecond})
		got, err = fetch(t, asking, b)
		asking.Close()
		if err == nil || got.lost > 0 {
			break
		}
	}
	c.whole.Store(true)
	if err != nil {
		t.Fatal(err)
	}
	if got.lost == 0 {
		t.Error("nothing was cut")
	}
	for _, f := range artifacts {
		if err, ended := got.ended[f.Path]; err != nil || !ended || !bytes.Equal(got.octets[f.Path].Bytes(), f.Data.Data) {
			t.Errorf("%s: %d octets of %d, %v", f.Path, got.octets[f.Path].Len(), len(f.Data.Data), err)
		}
	}
}

// TestDescribe: a job is its latest build that succeeded.
func TestDescribe(t *testing.T) {
	r := start(t)
	first := r.built("one", success, files("bin/x=1", "empty=")...)
	second := r.built("one", success, files("bin/x=2")...)
	failed := r.built("one", job.Result{Kind: job.Exited, Code: 1}, files("bin/x=3")...)
	r.built("bad", job.Result{Kind: job.Exited, Code: 1})
	r.schedule("new", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	running := w.begin().Build.UUID
	for name, tt := range map[string]struct {
		what, platform string
		want           uuid.UUID
		told           string
	}{
		"job":             {"one", "", second, ""},
		"on its platform": {"one", "p", second, ""},
		"on another":      {"one", "q", uuid.Nil, `job "one" has no build that succeeded on platform "q"`},
		"first":           {first.String(), "", first, ""},
		"prefix":          {first.String()[:13], "", first, ""},
		"failed":          {failed.String(), "", failed, ""},
		"of a platform":   {failed.String(), "p", failed, ""},
		"of another":      {failed.String(), "q", uuid.Nil, `is of platform "p", not of "q"`},
		"no success":      {"bad", "", uuid.Nil, `job "bad" has no build that succeeded`},
		"no build":        {"new", "", uuid.Nil, `job "new" has no build that succeeded`},
		"running":         {running.String(), "", uuid.Nil, "has not ended"},
		"nothing":         {"nothing", "", uuid.Nil, `no job is called "nothing"`},
		"empty":           {"", "", uuid.Nil, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := r.client().Describe(t.Context(), tt.what, tt.platform)
			if tt.told != "" {
				if err == nil || !strings.Contains(err.Error(), tt.told) {
					t.Errorf("%v, want %q", err, tt.told)
				}
				return
			}
			if err != nil || b.UUID != tt.want || len(b.Artifacts) == 0 {
				t.Errorf("build %v, %v", b, err)
			}
		})
	}
	b := describe(t, r.client(), first.String())
	want := []job.Artifact{
		{Path: "bin/x", Mode: 0o755, Content: job.ContentOf([]byte("1"))}, {Path: "empty", Mode: 0o755, Content: job.ContentOf(nil)},
	}
	if diff := cmp.Diff(want, b.Artifacts); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
}

// TestFetchRefused: what is asked for wrongly is told, and the rest comes.
func TestFetchRefused(t *testing.T) {
	r := start(t)
	id := r.built("one", success, files("a=0123456789", "b=other")...)
	p := r.dial(wire.Client, wire.OwnVersion)
	part := func(path string, offset int64) wire.FilePart { return wire.FilePart{Path: path, Offset: offset} }
	for name, tt := range map[string]struct {
		id    uuid.UUID
		parts []wire.FilePart
		want  []string
	}{
		"beyond the end":  {id, []wire.FilePart{part("a", 11), part("b", 0)}, []string{"missing: it has 10 octets", "content: other"}},
		"at the end":      {id, []wire.FilePart{part("a", 10)}, []string{"content: "}},
		"negative":        {id, []wire.FilePart{part("a", -1), part("b", 2)}, []string{"missing: it has 10 octets", "content: her"}},
		"far beyond":      {id, []wire.FilePart{part("a", 1<<61)}, []string{"missing: it has 10 octets"}},
		"no such path":    {id, []wire.FilePart{part("../a", 0), part("/etc/passwd", 0), part("", 0), part("a", 9)}, []string{"missing: ", "missing: ", "missing: ", "content: 9"}},
		"the same twice":  {id, []wire.FilePart{part("b", 2), part("b", 0)}, []string{"content: her", "content: other"}},
		"nothing":         {id, nil, nil},
		"no such build":   {uuid.UUID{1, 2, 3}, []wire.FilePart{part("a", 0)}, []string{"failure: build 01020300"}},
		"the zero one":    {uuid.Nil, []wire.FilePart{part("a", 0)}, []string{"failure: build 00000000"}},
		"nothing of none": {uuid.Nil, nil, []string{"failure: build 00000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			p.send(wire.Fetch{UUID: tt.id, Files: tt.parts})
			for i := 0; ; i++ {
				said := ""
				switch m := p.receive(wire.KindContent, wire.KindMissing, wire.KindSuccess, wire.KindFailure).(type) {
				case *wire.IncomingContent:
					octets, err := io.ReadAll(m)
					if err != nil {
						t.Fatal(err)
					}
					said = "content: " + string(octets)
				case wire.Missing:
					said = "missing: " + m.Reason
				case wire.Failure:
					said = "failure: " + m.Text
				case wire.Success:
					if i != len(tt.want) {
						t.Errorf("success after %d answers", i)
					}
					return
				}
				if i >= len(tt.want) || !strings.HasPrefix(said, tt.want[i]) {
					t.Fatalf("%d: %q, want %q", i, said, tt.want)
				}
				if strings.HasPrefix(said, "failure") {
					return
				}
			}
		})
	}
	p.send(wire.Fetch{UUID: id, Files: make([]wire.FilePart, wire.MaxFetch+1)})
	if m := p.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, "more than 1000") {
		t.Errorf("too many: %q", m.Text)
	}
	p.gone()
}

// TestFetchDamaged: the client never gets all of what is damaged, and the rest
// comes.
func TestFetchDamaged(t *testing.T) {
	large := strings.Repeat("artifact", 300_000)
	change := func(name string) error {
		data, err := os.ReadFile(name)
		if err == nil {
			data[len(data)-2] ^= 1
			err = os.WriteFile(name, data, 0o644)
		}
		return err
	}
	for name, tt := range map[string]struct {
		octets string
		damage func(string) error
		told   string
	}{
		"no content":    {"small", os.Remove, "missing from the store"},
		"cut":           {large, func(name string) error { return os.Truncate(name, 3) }, "damaged"},
		"changed small": {"small", change, "damaged"},
		"changed large": {large, change, client.ErrMismatch.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			b := describe(t, r.client(), r.built("one", success, files("a="+tt.octets, "b=other")...).String())
			if err := tt.damage(r.content(tt.octets)); err != nil {
				t.Fatal(err)
			}
			asking := client.New(r.address, client.Options{Pause: time.Millisecond})
			defer asking.Close()
			got, err := fetch(t, asking, b)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.ended["a"]; err == nil || !strings.Contains(err.Error(), tt.told) {
				t.Errorf("a: %v", err)
			}
			if err, ended := got.ended["b"]; err != nil || !ended || got.octets["b"].String() != "other" {
				t.Errorf("b: %v", err)
			}
			wait(t, "a line in the log", func() bool { return r.log.count(`"level":"error"`, b.UUID.String(), "can not be read") > 0 })
		})
	}
}

// TestFetchTakenOver: artifacts of the reference's results are served where they lie.
func TestFetchTakenOver(t *testing.T) {
	r := configure(t)
	t.Cleanup(r.halt)
	id := uuid.UUID{9}
	var result bytes.Buffer
	exec := wire.EncodeExec(wire.Exec{
		Job: wire.ScriptJob{Name: "old", Platform: "p", Script: text("true")}, UUID: id,
		Started: time.Unix(1_700_000_000, 0), Finished: time.Unix(1_700_000_060, 0),
	}, wire.Console{}, files("bin/x=binary", "empty=", "../../odd=hostile", "large="+strings.Repeat("large", 400_000)))
	if _, err := exec.WriteTo(&result); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(r.config.Dir, "old", id.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "full"), result.Bytes(), 0o444); err != nil {
		t.Fatal(err)
	}
	r.start()
	b := describe(t, r.client(), "old")
	got, err := fetch(t, r.client(), b)
	if err != nil || b.UUID != id || len(b.Artifacts) != 4 {
		t.Fatalf("%d artifacts of %v: %v", len(b.Artifacts), b.UUID, err)
	}
	for _, a := range b.Artifacts {
		if err := got.ended[a.Path]; err != nil || job.ContentOf(got.octets[a.Path].Bytes()) != a.Content {
			t.Errorf("%s: %v", a.Path, err)
		}
	}
	found, err := r.client().Find(t.Context(), job.ContentOf([]byte("binary")).SHA256, 10)
	if err != nil || len(found) != 1 || found[0].UUID != id {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestFindBuilds: builds are found by what they made, and lists tell what they
// came to.
func TestFindBuilds(t *testing.T) {
	r := start(t)
	first := r.built("one", success, files("bin/x=same", "copy=same")...)
	second := r.built("two", success, files("y=same", "z=other")...)
	found, err := r.client().Find(t.Context(), job.ContentOf([]byte("same")).SHA256, 10)
	var got []string
	for _, b := range found {
		for _, a := range b.Artifacts {
			got = append(got, b.UUID.String()+" "+a.Path)
		}
	}
	want := []string{second.String() + " y", first.String() + " bin/x", first.String() + " copy"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if found, err := r.client().Find(t.Context(), [32]byte{}, 10); err != nil || len(found) != 0 {
		t.Errorf("nothing: %v, %v", found, err)
	}
	list, err := r.client().List(t.Context(), "", 10)
	if err != nil || len(list.Builds) != 2 || len(list.Outputs) != 2 {
		t.Fatalf("%d builds, %d outputs: %v", len(list.Builds), len(list.Outputs), err)
	}
	outputs := list.Outputs
	if outputs[0] != (job.Output{}) || outputs[1].Path != "bin/x" || outputs[1].Main != job.ContentOf([]byte("same")) {
		t.Errorf("outputs %v", outputs)
	}
}

// TestSlowFetchers: clients that ask for much and do not take it hold little.
func TestSlowFetchers(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Log = zerolog.Nop() })
	var all []wire.File
	for i := range 200 {
		all = append(all, files(fmt.Sprintf("%s/%d=%d", strings.Repeat("name", 20), i, i))...)
	}
	id := r.built("one", success, append(all, files("large="+strings.Repeat("x", 8<<20))...)...)
	before := heap()
	for range 30 {
		r.stall(wire.Fetch{UUID: id, Files: []wire.FilePart{{Path: "large"}}})
	}
	if used := heap() - before; int64(used) > 20<<20 {
		t.Errorf("%d octets of memory", used)
	}
	if b := describe(t, r.client(), "one"); len(b.Artifacts) != 201 {
		t.Errorf("%d artifacts", len(b.Artifacts))
	}
}
