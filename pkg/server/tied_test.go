package server_test

import (
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

// TestTooLarge: a build of a worker that can not come back left more than it may.
// Its console is kept, its artifacts are not, also those that came before the limit.
func TestTooLarge(t *testing.T) {
	for name, version := range map[string]int64{"protocol 5": wire.WorkerVersion, "ours": wire.OwnVersion} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			_, err := r.client().Schedule(t.Context(), job.Job{Name: "one", Platform: "p", Limits: job.Limits{MaxArtifacts: 10}},
				[]byte("x"), job.Plan{Period: job.Never}, false)
			if err != nil {
				t.Fatal(err)
			}
			w := r.requested(version, "p")
			files := []wire.File{{Path: "a", Data: text("within")}, {Path: "b", Data: text("beyond")}, {Path: "c", Data: text("")}}
			if version == wire.OwnVersion {
				id := w.begin().Build.UUID
				w.send(lines(id, 0, "printed"))
				w.send(wire.Finish{UUID: id, Result: success, Files: files})
				w.receive(wire.KindStored)
			} else {
				id := w.job().UUID
				w.send(wire.Output{UUID: id, Data: []byte("printed")})
				w.send(wire.JobFinished{UUID: id, Files: files})
			}
			build := r.ended("one", 1)[0]
			if build.Result.Cause != job.TooLarge {
				t.Errorf("result %v", build.Result)
			}
			e := r.export(build.UUID)
			if diff := cmp.Diff([]string{"printed"}, e.Lines); diff != "" || len(e.Files) > 0 {
				t.Errorf("files %v, console (-want +got):\n%s", e.Files, diff)
			}
		})
	}
}
