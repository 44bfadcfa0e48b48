// Package job holds the nouns that every other package speaks of: jobs, plans,
// runs, builds, results, artifacts, console lines. It has their rules (what a
// name may be, what a result means) and their encoding in records and messages
// of our own version, and does no I/O.
//
//	job     a named thing to do
//	run     one time that a job is due or asked for, from entering a queue to
//	        its end
//	build   one attempt at a run on one worker; has a uuid, never used twice
//
// Values are plain data, not safe for concurrent change.
package job

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Job is a named thing to do. Either its script is given, or the name of a
// template that becomes the script when a build is handed out.
type Job struct {
	Name string
	// Platform is where it runs. Empty for an orb build, which runs on every
	// platform that has the template.
	Platform string
	// Script is the script's text in the content store; zero with a template.
	Script Content
	// Template is a template's name; empty with a script.
	Template string
	// Vars are the template's variables, sorted by name.
	Vars []Var
	// Limits bound each of its builds; zero ones are the server's.
	Limits Limits
	// Retries say how often a run is tried again.
	Retries Retries
	// Retention says which of its builds are kept; what is not set is the server's.
	Retention Retention
	// Resources bound what each of its builds uses of its machine.
	Resources Resources
}

// Var is a template variable.
type Var struct {
	Name, Value string
}

// The template of the reference's orb builds, its variable for the package, and
// the variable that every template gets.
const (
	OrbTemplate = "orb-build"
	OrbPackage  = "OPAM_PACKAGE"
	PlatformVar = "PLATFORM"
)

// OrbBuild is the reference's job of that kind: the orb-build template for one
// opam package, on each platform that has the template.
func OrbBuild(name, opamPackage string) Job {
	return Job{Name: name, Template: OrbTemplate, Vars: []Var{{OrbPackage, opamPackage}}}
}

// IsOrbBuild reports whether j is what [OrbBuild] makes, and its opam package.
func (j Job) IsOrbBuild() (opamPackage string, ok bool) {
	if j.Platform == "" && j.Template == OrbTemplate && len(j.Vars) == 1 && j.Vars[0].Name == OrbPackage {
		return j.Vars[0].Value, true
	}
	return "", false
}

// SortVars brings Vars into the order that the encoding keeps.
func (j *Job) SortVars() {
	slices.SortFunc(j.Vars, func(a, b Var) int { return cmp.Compare(a.Name, b.Name) })
}

// Equal reports whether two jobs are the same in every field.
func (j Job) Equal(other Job) bool {
	return j.Name == other.Name && j.Platform == other.Platform && j.Script == other.Script &&
		j.Template == other.Template && slices.Equal(j.Vars, other.Vars) &&
		j.Limits == other.Limits && j.Retries == other.Retries && j.Retention == other.Retention &&
		j.Resources == other.Resources
}

// maxName is the longest name of a job, platform or template, in octets.
const maxName = 100

// CheckName tells whether name may name a job, a platform or a template:
// [A-Za-z0-9][A-Za-z0-9._+-]{0,99}. The kind is for the message.
func CheckName(kind, name string) error {
	ok := name != "" && len(name) <= maxName && isAlphanumeric(name[0])
	for i := 0; ok && i < len(name); i++ {
		ok = isAlphanumeric(name[i]) || strings.IndexByte("._+-", name[i]) >= 0
	}
	if !ok {
		return fmt.Errorf("%s name %q is not allowed: use 1 to %d of A-Z a-z 0-9 . _ + - and begin with a letter or digit",
			kind, shorten(name), maxName)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// shorten keeps hostile names from flooding messages.
func shorten(s string) string { return Shorten(s, 2*maxName) }
