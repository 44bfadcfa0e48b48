package job_test

import (
	"testing"

	"builder/pkg/job"
)

func TestResources(t *testing.T) {
	all := job.Resources{CPUs: 1500, Memory: 512 << 20, PIDs: 100, Disk: 10e9, NoNetwork: true}
	if got, want := all.String(), "cpus 1.5, memory 512MiB, pids 100, disk 10GB, no network"; got != want {
		t.Errorf("shown as %q, want %q", got, want)
	}
	if got := (job.Resources{}).String(); got != "" {
		t.Errorf("none are shown as %q", got)
	}
	worker := job.Resources{CPUs: 1000, Memory: 1 << 30, Disk: 5e9}
	want := job.Resources{CPUs: 1000, Memory: 512 << 20, PIDs: 100, Disk: 5e9, NoNetwork: true}
	if got := all.Within(worker); got != want {
		t.Errorf("within %v it is %v, want %v", worker, got, want)
	}
	if got := worker.Within(all); got != want {
		t.Errorf("the other way round it is %v, want %v", got, want)
	}
	for name, r := range map[string]job.Resources{
		"negative":         {PIDs: -1},
		"few processors":   {CPUs: 9},
		"too small memory": {Memory: 4<<20 - 1},
		"too small disk":   {Disk: 1},
	} {
		if err := r.Check(); err == nil {
			t.Errorf("%s: %v is allowed", name, r)
		}
	}
	if err := all.Check(); err != nil {
		t.Error(err)
	}
	if got := all.Exhausted(); got.Cause != job.OutOfMemory || got.Text != "out of memory, limit 512MiB" || got.Infrastructure() {
		t.Errorf("result %v", got)
	}
}

func TestParseCPUs(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1000, "0.5": 500, "2.25": 2250, "64": 64000,
		"": 0, "0": 0, "-1": 0, "NaN": 0, "Inf": 0, "two": 0, "1e300": 0, "1000001": 0,
	} {
		got, err := job.ParseCPUs(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}
