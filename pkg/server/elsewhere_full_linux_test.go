package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/remote/remotetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestStoreFull: nginx has no room for the large content on its disk: that goes
// through the server, the others do not, and nothing of it stays there.
func TestStoreFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small file system can be mounted by root only")
	}
	disk := t.TempDir()
	if err := unix.Mount("full", disk, "tmpfs", 0, "size=2m,mode=755"); err != nil {
		t.Skipf("a small file system can not be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
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
