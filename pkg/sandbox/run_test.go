package sandbox_test

import "testing"

func TestSmoke(t *testing.T) {
	p := newPlain(t)
	exit, console := run(t, p, "echo hi; pwd; env; umask; ls -l /proc/self/fd; exit 3")
	t.Log(exit, console)
	exit, console = run(t, p, "#!/bin/nope\n")
	t.Log(exit, console)
	exit, console = run(t, p, "(sleep 100 &) ; kill -9 $$")
	t.Log(exit, console)
}
func beWorker(string) error { return nil }
