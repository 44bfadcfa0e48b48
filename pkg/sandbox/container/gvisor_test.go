//go:build linux

package container_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/container"
	"builder/pkg/sandbox/container/containertest"
)

// gvisor is kind with another runtime, which has another kernel in it.
var gvisor = func() conform.Kind {
	k := kind
	k.Name, k.Builds, k.Promises.PIDs = "gvisor", 20, false
	k.Open = func(site conform.Site) (conform.Box, error) {
		conf := config(site)
		conf.Runtime = os.Getenv("CONTAINER_TEST_RUNTIME")
		return container.Open(context(), conf)
	}
	k.Except = maps.Clone(k.Except)
	k.Except["artifacts/named_pipe"] = "it is one in gVisor's kernel only, and nothing outside"
	for _, name := range once {
		k.Except[name] = "it is the same as with runc"
	}
	return k
}()

func TestGVisor(t *testing.T) {
	runsc, err := exec.LookPath(filepath.Join(containertest.Installed("runsc"), "runsc"))
	if err != nil {
		t.Skipf("not installed: %v (scripts/containerd does)", err)
	}
	runtime := filepath.Join(t.TempDir(), "runsc")
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %s --platform=systrap --network=none \"$@\"\n", runsc)
	if err := os.WriteFile(runtime, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINER_TEST_RUNTIME", runtime)
	each(t, func(t *testing.T, d *daemon) {
		if d == daemons[0] {
			t.Log("the runtime is the same for both: tested with the other")
			return
		}
		t.Setenv("CONTAINER_TEST_SOCKET", d.Socket())
		conform.Run(t, gvisor)
	})
}
