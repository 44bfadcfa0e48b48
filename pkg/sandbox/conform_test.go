package sandbox_test

import (
	"testing"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
)

var plain = conform.Kind{
	Name:     "plain",
	Open:     func(site conform.Site) (conform.Box, error) { return sandbox.NewPlain(site.Dir, site.Slots) },
	Promises: conform.Promises{Kept: true},
}

func TestPlain(t *testing.T) { conform.Run(t, plain) }
