package server_test

import (
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/remote/remotetest"

	"github.com/google/go-cmp/cmp"
)

// TestStoreFull: nginx has no room for the large content on its disk: that goes
// through the server, the others do not, and nothing of it stays there.
func TestStoreFull(t *testing.T) {
	disk := smallDisk(t, "size=2m,mode=755")
	real := remotetest.Nginx(t, remotetest.Options{Dir: disk})
	o := known(t, "")
	r := start(t, following(t, real.URL, o))
	r.worker("p", putting(t, real.URL, o))
	r.schedule("one", "p", leaving)
	b := r.record(r.ended("one", 1)[0].UUID)
	paths, notes := located(t, b, real.URL)
	if strings.Contains(strings.Join(paths, " "), "bin/large") || !strings.Contains(notes, "went through the server, since the store did not take them: ") || !r.has(large) {
		t.Errorf("%q in the store, notes %q", paths, notes)
	}
	r.exports(b)
	incoming, err := filepath.Glob(filepath.Join(disk, "store", "incoming", "*"))
	if d := cmp.Diff([]string(nil), incoming); d != "" || err != nil {
		t.Errorf("what did not fit is left (-want +got):\n%s%v", d, err)
	}
}
