package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
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

// TestTemplate: what is wrong with a template is told when the job is
// scheduled, and again when it is handed out.
func TestTemplate(t *testing.T) {
	r := start(t)
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

// TestTemplateGone: the build of a job whose template was removed ends with a
// message that names the file, and can be exported. The job stays.
func TestTemplateGone(t *testing.T) {
	r := start(t)
	r.template("t.template.p", "run")
	r.scheduleTemplate("one", "", "t")
	r.removeTemplate("t.template.p")
	if err := r.tryTemplate("two", "", "t"); err == nil {
		t.Error("a template that is gone was accepted")
	}
	// Known from the time of its scheduling: nothing is queued, since no platform
	// was known then. It has one of its own now.
	r.template("u.template", "run")
	r.scheduleTemplate("three", "p", "u")
	r.removeTemplate("u.template")
	r.requested(wire.OwnVersion, "p")
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
