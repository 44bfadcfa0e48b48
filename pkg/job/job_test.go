package job_test

import (
	"strings"
	"testing"
	"time"

	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
)

func TestCheckName(t *testing.T) {
	long := strings.Repeat("a", 100)
	good := []string{"a", "0", "hello", "debian-12", "libfoo++", "x_y.z", "A-", long}
	for _, name := range good {
		if err := job.CheckName("job", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	bad := []string{"", ".", "..", "-a", "_a", "+a", ".a", "a/b", "a b", "a\x00", "é", "a\n", "a%", long + "a"}
	for _, name := range bad {
		err := job.CheckName("platform", name)
		if err == nil || !strings.Contains(err.Error(), "platform name") || !strings.Contains(err.Error(), "use 1 to 100") {
			t.Errorf("%q: got %v, want an error that says what is allowed", name, err)
		}
	}
	if err := job.CheckName("job", strings.Repeat("/", 1<<20)); len(err.Error()) > 500 {
		t.Errorf("a message of %d octets", len(err.Error()))
	}
}

func TestCheckPath(t *testing.T) {
	good := []string{
		"a", "a/b", ".hidden", "a/.b/c..", "...", "a b", "naïve", "\xff\xfe", `a\b`, "-rf", "a\nb",
		strings.Repeat("a", 4095),
	}
	for _, path := range good {
		if err := job.CheckPath(path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	bad := map[string]string{
		"": "empty", "/": "absolute", "/a": "absolute", "//a": "absolute", ".": "clean", "..": "clean", "../a": "clean",
		"a/..": "clean", "a/../b": "clean", "./a": "clean", "a/./b": "clean", "a//b": "clean", "a/": "clean",
		"a\x00b": "NUL", strings.Repeat("a", 4096): "longer",
	}
	for path, want := range bad {
		if err := job.CheckPath(path); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
			t.Errorf("%.20q: got %v, want an error with %q", path, err, want)
		}
	}
}

func TestIsBackup(t *testing.T) {
	for _, file := range []string{"a~", "a.debian-12~", ".a.swp", "a.swp", "#a#", "a.bak", "a.freebsd-14.2.orig", "a.dpkg-old", ".hidden", "a.rpmsave"} {
		if !job.IsBackup(file) {
			t.Errorf("%s is none", file)
		}
	}
	for _, file := range []string{"a", "a.template", "a.template.debian-12", "a.template.freebsd-14.2", "10-a.sh", "bak", "a.template.old-debian"} {
		if job.IsBackup(file) {
			t.Errorf("%s is one", file)
		}
	}
}

func TestOrbBuild(t *testing.T) {
	orb := job.OrbBuild("albatross", "albatross.2.0.0")
	if got, ok := orb.IsOrbBuild(); got != "albatross.2.0.0" || !ok {
		t.Errorf("got %q, %v", got, ok)
	}
	for name, change := range map[string]func(*job.Job){
		"with a platform":              func(j *job.Job) { j.Platform = "p" },
		"of another template":          func(j *job.Job) { j.Template = "go-build" },
		"with another variable":        func(j *job.Job) { j.Vars = append(j.Vars[:1:1], job.Var{Name: "X"}) },
		"without variables":            func(j *job.Job) { j.Vars = nil },
		"with another variable's name": func(j *job.Job) { j.Vars = []job.Var{{Name: "X", Value: "y"}} },
	} {
		other := job.OrbBuild("albatross", "albatross.2.0.0")
		change(&other)
		if _, ok := other.IsOrbBuild(); ok {
			t.Errorf("a job %s is an orb build", name)
		}
		if other.Equal(orb) {
			t.Errorf("a job %s equals one without", name)
		}
	}
}

func TestSortVars(t *testing.T) {
	j := job.Job{Vars: []job.Var{{"B", "1"}, {"A", "2"}, {"C", "3"}}}
	j.SortVars()
	if d := cmp.Diff([]job.Var{{"A", "2"}, {"B", "1"}, {"C", "3"}}, j.Vars); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPeriod(t *testing.T) {
	durations := map[job.Period]time.Duration{
		job.Hourly: time.Hour, job.Daily: 24 * time.Hour, job.Weekly: 168 * time.Hour, job.Never: 0,
	}
	for p, want := range durations {
		if got := p.Duration(); got != want {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
		if got, err := job.ParsePeriod(p.String()); got != p || err != nil {
			t.Errorf("%v was parsed as %v, %v", p, got, err)
		}
	}
	if _, err := job.ParsePeriod("monthly"); err == nil || !strings.Contains(err.Error(), "hourly, daily, weekly or never") {
		t.Errorf("got %v, want an error that says what is allowed", err)
	}
	if got := job.Period(9).String(); got != "period 9" {
		t.Errorf("got %q", got)
	}
}

func TestPlan(t *testing.T) {
	tests := []struct {
		plan   job.Plan
		text   string
		legacy job.Period
	}{
		{job.Plan{}, "hourly", job.Hourly},
		{job.Plan{Period: job.Weekly}, "weekly", job.Weekly},
		{job.Plan{Every: 90 * time.Minute}, "every 1h30m", job.Never},
		{job.Plan{Every: 20 * time.Hour}, "every 20h", job.Never},
		{job.Plan{Every: 10 * time.Minute}, "every 10m", job.Never},
		{job.Plan{Every: 3610 * time.Second}, "every 1h0m10s", job.Never},
		{job.Plan{Every: 30 * time.Second}, "every 30s", job.Never},
		{job.Plan{Every: time.Hour, Cron: "@daily"}, `cron "@daily"`, job.Never},
		{job.Plan{Cron: "0 3 * * *", Zone: "Europe/Berlin"}, `cron "0 3 * * *" Europe/Berlin`, job.Never},
	}
	for _, tt := range tests {
		if got := tt.plan.String(); got != tt.text {
			t.Errorf("%+v: %s, want %s", tt.plan, got, tt.text)
		}
		if got := tt.plan.Legacy(); got != tt.legacy {
			t.Errorf("%+v: legacy %v, want %v", tt.plan, got, tt.legacy)
		}
	}
}

func TestResult(t *testing.T) {
	tests := []struct {
		result         job.Result
		text           string
		success, infra bool
	}{
		{job.Result{}, "exited 0", true, false},
		{job.Result{Code: 3}, "exited 3", false, false},
		{job.Result{Kind: job.Signalled, Code: 9}, "killed by SIGKILL", false, false},
		{job.Result{Kind: job.Signalled, Code: -7}, "killed by SIGKILL", false, false},
		{job.Result{Kind: job.Signalled, Code: -11}, "killed by SIGTERM", false, false},
		{job.Result{Kind: job.Signalled, Code: -28}, "killed by SIGXFSZ", false, false},
		{job.Result{Kind: job.Signalled, Code: -29}, "killed by signal -29", false, false},
		{job.Result{Kind: job.Signalled, Code: 0}, "killed by signal 0", false, false},
		{job.Result{Kind: job.Stopped, Code: -16}, "stopped by SIGSTOP", false, false},
		{job.Result{Kind: job.Stopped, Code: 99}, "stopped by signal 99", false, false},
		{job.Result{Kind: job.Failed}, "failed", false, false},
		{job.Result{Kind: job.Failed, Text: "a\xffb"}, "a\uFFFDb", false, false},
		{job.Failure(job.Timeout, "ran longer than %v", time.Hour), "ran longer than 1h0m0s", false, false},
		{job.Failure(job.WorkerLost, "lost"), "lost", false, true},
		{job.Failure(job.NoSandbox, "none"), "none", false, true},
		{job.Failure(job.ServerSide, "disk full"), "disk full", false, true},
		{job.Failure(job.Cancelled, "by you"), "by you", false, false},
		{job.Result{Kind: 7}, "unknown result 7", false, false},
	}
	for _, tt := range tests {
		if got := tt.result.String(); got != tt.text {
			t.Errorf("%+v: %q, want %q", tt.result, got, tt.text)
		}
		if got := tt.result.Success(); got != tt.success {
			t.Errorf("%+v: success %v", tt.result, got)
		}
		if got := tt.result.Infrastructure(); got != tt.infra {
			t.Errorf("%+v: infrastructure %v", tt.result, got)
		}
	}
}

func TestResultLegacy(t *testing.T) {
	tests := []struct{ result, want job.Result }{
		{job.Result{Code: 3}, job.Result{Code: 3}},
		{job.Result{Kind: job.Signalled, Code: 15}, job.Result{Kind: job.Exited, Code: 143}},
		{job.Result{Kind: job.Signalled, Code: -11}, job.Result{Kind: job.Signalled, Code: -11}},
		{job.Failure(job.Timeout, "late"), job.Failure(job.Timeout, "late")},
	}
	for _, tt := range tests {
		if got := tt.result.Legacy(); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.result, got, tt.want)
		}
	}
}
