package job

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"builder/pkg/der"
)

// The artifacts that tell what a build was made from and in, as orb writes them.
const (
	OpamSwitch       = "opam-switch"
	BuildEnvironment = "build-environment"
	SystemPackages   = "system-packages"
)

// Output is what tells whether two builds came to the same, as builder-web sees it.
type Output struct {
	// Path and Main are the main artifact: the one below bin/. Both are zero when
	// there is none, or more than one.
	Path string
	Main Content
	// Inputs is SHA-256 of the hashes of OpamSwitch, BuildEnvironment and
	// SystemPackages, in that order; zero unless all three are there.
	Inputs [sha256.Size]byte
}

// HasInputs reports whether it is known what the build was made from.
func (o Output) HasInputs() bool { return o.Inputs != [sha256.Size]byte{} }

// OutputOf finds it among all artifacts of a build.
func OutputOf(artifacts []Artifact) Output {
	var o Output
	mains, inputs, found := 0, [3]Content{}, [3]bool{}
	for _, a := range artifacts {
		switch a.Path {
		case OpamSwitch:
			inputs[0], found[0] = a.Content, true
		case BuildEnvironment:
			inputs[1], found[1] = a.Content, true
		case SystemPackages:
			inputs[2], found[2] = a.Content, true
		}
		if strings.HasPrefix(a.Path, "bin/") {
			mains++
			o.Path, o.Main = a.Path, a.Content
		}
	}
	if mains != 1 {
		o.Path, o.Main = "", Content{}
	}
	if found == [3]bool{true, true, true} {
		sum := sha256.New()
		for _, c := range inputs {
			sum.Write(c.SHA256[:])
		}
		sum.Sum(o.Inputs[:0])
	}
	return o
}

// EncodeOutput writes SEQUENCE { path UTF8String, main Content, inputs
// UTF8String (SIZE (0 | 32)) }.
func EncodeOutput(w *der.Writer, o Output) {
	w.Sequence(func() {
		w.Text(o.Path)
		EncodeContent(w, o.Main)
		if o.HasInputs() {
			w.Octets(o.Inputs[:])
		} else {
			w.Octets(nil)
		}
	})
}

// DecodeOutput is the inverse of EncodeOutput.
func DecodeOutput(r *der.Reader) Output {
	in := r.Enter(der.Sequence)
	o := Output{Path: in.Text(), Main: DecodeContent(&in)}
	inputs := in.Octets()
	if in.Err() == nil && len(inputs) != 0 && len(inputs) != sha256.Size {
		in.Fail(fmt.Errorf("inputs of %d octets", len(inputs)))
	}
	copy(o.Inputs[:], inputs)
	return o
}
