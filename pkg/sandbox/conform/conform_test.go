package conform_test

import (
	"testing"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
)

// plain is here and not with its own tests, since those are of package sandbox.
var plain = conform.Kind{
	Name: "plain",
	Open: func(site conform.Site) (conform.Box, error) { return sandbox.NewPlain(site.Dir, site.Slots) },
}

func TestMain(m *testing.M) { conform.Main(m, plain) }

func TestPlain(t *testing.T) { conform.Run(t, plain) }
