package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

func (r *running) removeTemplate(name string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.config.ConfigDir, name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) scheduleTemplate(name, platform, template string, vars ...job.Var) {
	r.t.Helper()
	if err := r.tryTemplate(name, platform, template, vars...); err != nil {
		r.t.Fatalf("scheduling: %v", err)
	}
}

func (r *running) tryTemplate(name, platform, template string, vars ...job.Var) error {
	j := job.Job{Name: name, Platform: platform, Template: template, Vars: vars}
	_, err := r.client().Schedule(r.t.Context(), j, nil, job.Plan{Period: job.Never}, false)
	return err
}

// known makes a platform known by a worker, which goes again.
func (r *running) known(platform string) {
	r.t.Helper()
	w := r.requested(wire.OwnVersion, platform)
	r.waiting(platform, 1)
	w.Close()
	r.waiting(platform, 0)
}

// TestTemplate: what is wrong with a template is told when the job is
// scheduled, and again when it is handed out.
func TestTemplate(t *testing.T) {
	r := start(t)
	r.known("p")
	r.template("t.template", "run %%X%% on %%PLATFORM%%")
	r.template("t.template.q", "special %%X%%")
	for name, tt := range map[string]struct {
		template string
		vars     []job.Var
		want     string
	}{
		"unknown template": {"none", nil, "none.template"},
		"missing variable": {"t", nil, "X"},
		"unknown variable": {"t", []job.Var{{Name: "X"}, {Name: "Y"}}, "Y"},
		"bad name":         {"../t", nil, "is not allowed"},
		"huge variable":    {"t", []job.Var{{Name: "X", Value: strings.Repeat("x", 100_000)}}, "octets"},
	} {
		for _, platform := range []string{"p", ""} {
			var refused *client.RefusedError
			if err := r.tryTemplate("bad", platform, tt.template, tt.vars...); !errors.As(err, &refused) || !strings.Contains(refused.Text, tt.want) {
				t.Errorf("%s: %v, expected %q", name, err, tt.want)
			}
		}
	}
	x := job.Var{Name: "X", Value: "it"}
	for platform, want := range map[string]string{"p": "run it on p", "q": "special it"} {
		r.scheduleTemplate("on-"+platform, platform, "t", x)
		w := r.requested(wire.OwnVersion, platform)
		start := w.begin()
		if string(start.Script) != want {
			t.Errorf("script %q, expected %q", start.Script, want)
		}
		w.send(wire.Finish{UUID: start.Build.UUID, Result: success})
		w.receive(wire.KindStored)
		if e := r.export(start.Build.UUID); string(e.Job.Script.Data) != want {
			t.Errorf("exported with the script %q", e.Job.Script.Data)
		}
	}
}

// TestOddConfigDir: the directory of templates may have any name.
func TestOddConfigDir(t *testing.T) {
	r := start(t, func(c *server.Config) {
		c.ConfigDir = filepath.Join(c.ConfigDir, "[a]*?")
		if err := os.Mkdir(c.ConfigDir, 0o755); err != nil {
			t.Fatal(err)
		}
	})
	r.known("p")
	r.template("t.template.p", "run")
	r.scheduleTemplate("one", "", "t")
}

// TestNowhere: a job that no known platform has a template for is refused, with
// what is missing.
func TestNowhere(t *testing.T) {
	r := start(t)
	r.template("orb-build.template.q", "run %%OPAM_PACKAGE%%")
	refused := func(want ...string) {
		t.Helper()
		j := job.OrbBuild("one", "a.1")
		_, err := r.client().Schedule(t.Context(), j, nil, job.Plan{}, false)
		for _, want := range want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q in it", err, want)
			}
		}
		legacy := r.legacy(wire.ScheduleOrb{Name: "one", Package: "a.1"})
		if err == nil || legacy != err.Error() {
			t.Errorf("protocol 13 is told %q", legacy)
		}
	}
	refused("no platform is known yet")
	r.requested(wire.OwnVersion, "p")
	r.waiting("p", 1)
	refused(`no known platform has a template "orb-build"`, `known platforms: "p"`, "put orb-build.template.PLATFORM into "+r.config.ConfigDir)
	if jobs := r.status().Jobs; len(jobs) > 0 {
		t.Errorf("the schedule has %+v", jobs)
	}
	r.requested(wire.OwnVersion, "q")
	r.waiting("q", 1)
	for _, backup := range []string{"orb-build.template.q~", "orb-build.template.q.bak", "orb-build.template.orig", ".orb-build.template.q.swp"} {
		r.template(backup, "run %%OTHER%%")
	}
	if refusal := r.legacy(wire.ScheduleOrb{Name: "one", Package: "a.1"}); refusal != "" {
		t.Error(refusal)
	}
}

// TestTemplateGone: the build of a job whose template was removed ends with a
// message that names the file, and can be exported. The job stays.
func TestTemplateGone(t *testing.T) {
	r := start(t)
	r.template("t.template.p", "run")
	r.known("p")
	r.scheduleTemplate("one", "", "t")
	r.removeTemplate("t.template.p")
	if err := r.tryTemplate("two", "", "t"); err == nil {
		t.Error("a template that is gone was accepted")
	}
	r.template("u.template", "run")
	r.scheduleTemplate("three", "p", "u")
	r.removeTemplate("u.template")
	r.requested(wire.OwnVersion, "p")
	if build := r.ended("one", 1)[0]; build.Result.Cause != job.Setup {
		t.Errorf("result %v", build.Result)
	}
	build := r.ended("three", 1)[0]
	if want := filepath.Join(r.config.ConfigDir, "u.template"); build.Result.Cause != job.Setup || !strings.Contains(build.Result.Text, want) {
		t.Errorf("result %v, expected %s in it", build.Result, want)
	}
	if e := r.export(build.UUID); e.Result.Kind != job.Failed || len(e.Job.Script.Data) != 0 {
		t.Errorf("exported: %+v", e.Exec)
	}
	r.template("u.template", "run")
	r.execute("three")
	wait(t, "it runs", func() bool { return len(r.status().Building) == 1 })
}

// TestExpandedKept: a server that starts while builds run knows what their templates
// became, whatever the files say by then.
func TestExpandedKept(t *testing.T) {
	r := start(t)
	hand := map[string]func(platform string) (uuid.UUID, string){
		"returning": func(platform string) (uuid.UUID, string) {
			p, _ := r.returning("w")
			p.send(wire.JobRequested{Platform: platform})
			start := p.begin()
			return start.Build.UUID, string(start.Script)
		},
		"own": func(platform string) (uuid.UUID, string) {
			start := r.requested(wire.OwnVersion, platform).begin()
			return start.Build.UUID, string(start.Script)
		},
		"old": func(platform string) (uuid.UUID, string) {
			start := r.requested(wire.WorkerVersion, platform).job()
			return start.UUID, string(start.Job.Script.Data)
		},
	}
	r.template("t.template", "first on %%PLATFORM%%")
	ids := map[string]uuid.UUID{}
	for platform, hand := range hand {
		r.scheduleTemplate(platform, platform, "t")
		id, script := hand(platform)
		if want := "first on " + platform; script != want {
			t.Errorf("script %q, expected %q", script, want)
		}
		ids[platform] = id
	}
	r.template("t.template", "second on %%PLATFORM%%")
	r.restart()
	p, m := r.returning("w", wire.Held{UUID: ids["returning"]})
	resumed(t, m, ids["returning"], 0)
	p.send(wire.Done{UUID: ids["returning"], Result: success})
	stored(t, p, ids["returning"])
	for platform, id := range ids {
		want := "first on " + platform
		if build := r.ended(platform, 1)[0]; build.UUID != id || build.Script != job.ContentOf([]byte(want)) {
			t.Errorf("%s: recorded %+v, expected the script %q", platform, build, want)
		}
		if e := r.export(id); string(e.Job.Script.Data) != want {
			t.Errorf("%s: exported with the script %q, expected %q", platform, e.Job.Script.Data, want)
		}
	}
}

// TestExpandedUnkept: a disk that does not take what a template became is no
// failure of the job.
func TestExpandedUnkept(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.template("t.template", "run")
	r.scheduleTemplate("one", "p", "t")
	files.set(failing(syscall.ENOSPC, "/v1/tmp/", "open", "write"))
	p, _ := r.returning("w")
	p.send(wire.JobRequested{Platform: "p"})
	build := r.ended("one", 1)[0]
	if build.Result.Cause != job.ServerSide || !strings.Contains(build.Result.Text, syscall.ENOSPC.Error()) {
		t.Errorf("result %v", build.Result)
	}
	p.receive(wire.KindStop) // of a build that it does not know
	files.set(nil)
	p.send(wire.JobRequested{Platform: "p"})
	if start := p.begin(); string(start.Script) != "run" || start.Build.Run != build.Run || start.Build.Try != 1 {
		t.Errorf("handed out %+v, after %+v", start, build)
	}
}
