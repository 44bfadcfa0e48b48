package conform

import (
	"cmp"
	"os"
	"strconv"
	"testing"
)

// leaks runs many builds (BUILDS), bounded in every way, some of which leave processes and files
// behind, and compares descriptors, processes and machine before and after.
func (s *suite) leaks(t *testing.T) {
	builds := cmp.Or(s.kind.Builds, 200)
	if testing.Short() {
		builds = 20
	}
	if asked := os.Getenv("BUILDS"); asked != "" {
		var err error
		if builds, err = strconv.Atoi(asked); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, "true")
	before, machine := census(t), s.look(t, s.site)
	for i := range builds {
		script := "echo x >out.txt; mkdir -p a/b"
		if i%10 == 0 {
			script += "; (setsid sleep 1000 &)"
		}
		what, _ := spec(script)
		what.Resources = everything(s.box)
		place, err := s.box.Prepare(t.Context(), what)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := runIn(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		artifacts, _, err := place.Artifacts(nil)
		if err != nil || len(artifacts) != 1 {
			t.Fatal(artifacts, err)
		}
		if err := place.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	s.settle(t, s.site, machine)
	equal(t, "descriptors and children", before, census(t))
}

// census counts our descriptors and our children.
func census(t *testing.T) (c struct{ Descriptors, Children int }) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Logf("descriptors are not counted: %v", err)
	}
	c.Descriptors = len(fds)
	c.Children = len(children(os.Getpid()))
	return c
}
