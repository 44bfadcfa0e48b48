package jail_test

import (
	"context"
	"os"
	"testing"

	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/jail"
)

// hostVariable tells the workers that the suite kills where the stand-ins are.
const hostVariable = "JAIL_TEST_HOST"

const (
	wording   = "env(1) says it in the jail, in its own words; TestRun looks at the status"
	noProcess = "a jail has no /proc; TestBounds looks by other means"
)

var kind = conform.Kind{
	Name: "jail",
	Open: func(site conform.Site) (conform.Box, error) {
		h := host(os.Getenv(hostVariable))
		return jail.New(context.Background(), jail.Config{Dir: site.Dir, Worker: site.ID, Snapshot: standInSnapshot, Run: h.call})
	},
	Promises: conform.Promises{Disk: true, NoNetwork: true, Private: true, Kept: true},
	Except: map[string]string{
		"exit/interpreter_is_missing":     wording,
		"exit/interpreter_is_a_directory": wording,
		"exit/interpreter_from_Windows":   wording,
		"exit/nothing_named_after_the_#!": wording,
		"no_network":                      noProcess,
	},
	Machine: func(site conform.Site) ([]string, error) { return host(os.Getenv(hostVariable)).has(site.ID), nil },
}

// TestConformance runs what all kinds are held to. What the stand-ins do not keep is
// refused, as on a machine without accounting.
func TestConformance(t *testing.T) {
	m := newMachine(t)
	m.host.write("kernel", "kern.racct.enable 0", "kern.features.vimage 1")
	t.Setenv(hostVariable, string(m.host))
	conform.Run(t, kind)
}
