package job_test

import (
	"crypto/sha256"
	"slices"
	"testing"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
)

func TestOutputOf(t *testing.T) {
	artifact := func(path string) job.Artifact {
		return job.Artifact{Path: path, Mode: 0o755, Content: job.ContentOf([]byte("in " + path))}
	}
	inputs := []job.Artifact{artifact("system-packages"), artifact("opam-switch"), artifact("build-environment")}
	var hashes []byte
	for _, i := range []int{1, 2, 0} {
		hashes = append(hashes, inputs[i].SHA256[:]...)
	}
	sum := sha256.Sum256(hashes)
	for name, test := range map[string]struct {
		artifacts []job.Artifact
		want      job.Output
	}{
		"nothing":         {nil, job.Output{}},
		"one main":        {[]job.Artifact{artifact("a"), artifact("bin/x")}, job.Output{Path: "bin/x", Main: artifact("bin/x").Content}},
		"two mains":       {[]job.Artifact{artifact("bin/y"), artifact("bin/x")}, job.Output{}},
		"not at the top":  {[]job.Artifact{artifact("a/bin/x"), artifact("binary")}, job.Output{}},
		"deep":            {[]job.Artifact{artifact("bin/a/b")}, job.Output{Path: "bin/a/b", Main: artifact("bin/a/b").Content}},
		"inputs":          {inputs, job.Output{Inputs: sum}},
		"inputs and main": {append(slices.Clone(inputs), artifact("bin/x")), job.Output{Path: "bin/x", Main: artifact("bin/x").Content, Inputs: sum}},
		"two of three":    {inputs[:2], job.Output{}},
		"below":           {append(slices.Clone(inputs[:2]), artifact("a/build-environment")), job.Output{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := job.OutputOf(test.artifacts)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var w der.Writer
			job.EncodeOutput(&w, got)
			r := der.NewReader(w.Data)
			if diff := cmp.Diff(got, job.DecodeOutput(r)); diff != "" || r.Err() != nil {
				t.Errorf("decoded: %v (-want +got):\n%s", r.Err(), diff)
			}
		})
	}
}
