package job_test

import (
	"slices"
	"testing"

	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
)

func TestLine(t *testing.T) {
	tests := []struct {
		name string
		line job.Line
		want []job.Line
		n    int64
	}{
		{"one", job.Line{Delta: 1, Data: []byte("a")}, []job.Line{{Delta: 1, Data: []byte("a")}}, 1},
		{"one with newlines", job.Line{Data: []byte("a\nb\n")}, []job.Line{{Data: []byte("a\nb\n")}}, 1},
		{"partial", job.Line{Data: []byte("a"), Flags: job.Partial}, []job.Line{{Data: []byte("a"), Flags: job.Partial}}, 0},
		{"many that are one", job.Line{Data: []byte("a"), Flags: job.Many}, []job.Line{{Data: []byte("a")}}, 1},
		{
			"many",
			job.Line{Delta: 2, Data: []byte("a\n\nb\n"), Flags: job.Many},
			[]job.Line{{2, []byte("a"), 0}, {2, []byte{}, 0}, {2, []byte("b"), 0}, {2, []byte{}, 0}},
			4,
		},
		{
			"many without an end",
			job.Line{Data: []byte("a\nb"), Flags: job.Many | job.Unended},
			[]job.Line{{Data: []byte("a")}, {Data: []byte("b"), Flags: job.Unended}},
			2,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, slices.Collect(test.line.Each())); diff != "" {
				t.Error(diff)
			}
			if n := job.CountLines([]job.Line{test.line, test.line}); n != 2*test.n {
				t.Errorf("twice that are %d lines, expected %d", n, 2*test.n)
			}
			for n := range test.n {
				if diff := cmp.Diff(test.want[n:], slices.Collect(test.line.From(n).Each())); diff != "" {
					t.Errorf("from %d: %s", n, diff)
				}
			}
		})
	}
}
