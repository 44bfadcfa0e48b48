package main

import (
	"context"

	"builder/pkg/sandbox"

	"github.com/spf13/pflag"
)

// none is the kind without isolation, or with no more than namespaces.
type none struct{ namespaces bool }

func (*none) name() string  { return "none" }
func (*none) about() string { return "a plain process" }

func (n *none) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&n.namespaces, "namespaces", false, "none: namespaces around each build: no sight of other builds and processes,\na /tmp of its own; needs no root where the kernel allows it (Linux)")
}

func (n *none) check(context.Context, site) []sandbox.Finding {
	if !n.namespaces {
		return nil
	}
	return []sandbox.Finding{namespacesWork()}
}

func (n *none) open(_ context.Context, s site) (closingSandbox, error) {
	if n.namespaces {
		return sandbox.NewFenced(s.dir.Builds(), max(s.slots, s.warm), sandbox.Fence{Worker: s.dir.ID.String()})
	}
	return sandbox.NewPlain(s.dir.Builds(), max(s.slots, s.warm))
}

func namespacesWork() sandbox.Finding {
	f := sandbox.Finding{What: "namespaces", Err: sandbox.TryNamespaces()}
	if f.Err != nil {
		f.Help = sandbox.NamespacesHelp()
	}
	return f
}
