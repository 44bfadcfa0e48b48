// Package template fills %%NAME%% variables into texts, and finds the templates
// of a server in its config directory. It knows nothing of jobs and shells,
// except for how a shell quotes.
//
// The one invariant: what Expand returns is the text of the template with each
// variable form replaced by a value, and a value is never expanded again.
//
//	in the template     becomes
//	%%NAME%%            the value as it is
//	%%'NAME'%%          the value as one word of a POSIX shell, in single quotes
//	anything else       itself: "date +%%H", "100 %", "%%%%", "%%name%%"
//
// A NAME is [A-Z][A-Z0-9_]*. Forms are looked for from left to right and do not
// overlap: in "%%A%%B%%" the variable is A. The templates of robur's builder, with
// their %%OPAM_PACKAGE%% and %%PLATFORM%%, mean the same here.
package template

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Platform is the variable that every expansion is given. A template need not
// use it.
const Platform = "PLATFORM"

// form matches a variable, quoted or not.
var form = regexp.MustCompile(`%%(?:([A-Z][A-Z0-9_]*)|'([A-Z][A-Z0-9_]*)')%%`)

// VariableError says that the variables given are not those that a template uses.
type VariableError struct {
	Missing []string // used, not given; sorted
	Unknown []string // given, not used; sorted
}

// Error implements error.
func (e *VariableError) Error() string {
	var parts []string
	if len(e.Missing) > 0 {
		parts = append(parts, "no value is given for "+strings.Join(e.Missing, ", "))
	}
	if len(e.Unknown) > 0 {
		parts = append(parts, "there is no variable "+strings.Join(e.Unknown, ", "))
	}
	return strings.Join(parts, "; ")
}

// Variables returns the names of the variables in text, sorted, each once.
func Variables(text string) []string {
	names := map[string]bool{}
	for _, match := range form.FindAllStringSubmatch(text, -1) {
		names[match[1]+match[2]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Expand replaces the variables in text by their values. When a variable of the
// text is not in vars, or the other way around (but for [Platform]), the error is
// a *VariableError that lists all of them. A value with a NUL is an error, since
// no shell can be given one.
func Expand(text string, vars map[string]string) (string, error) {
	if err := check(Variables(text), vars); err != nil {
		return "", err
	}
	var out strings.Builder
	end := 0
	for _, at := range form.FindAllStringSubmatchIndex(text, -1) {
		out.WriteString(text[end:at[0]])
		if at[2] >= 0 {
			out.WriteString(vars[text[at[2]:at[3]]])
		} else {
			out.WriteString(Quote(vars[text[at[4]:at[5]]]))
		}
		end = at[1]
	}
	out.WriteString(text[end:])
	return out.String(), nil
}

func check(used []string, vars map[string]string) error {
	var wrong VariableError
	for _, name := range used {
		if _, given := vars[name]; !given {
			wrong.Missing = append(wrong.Missing, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if strings.ContainsRune(vars[name], 0) {
			return fmt.Errorf("the value of %s has a NUL octet", name)
		}
		if _, found := slices.BinarySearch(used, name); !found && name != Platform {
			wrong.Unknown = append(wrong.Unknown, name)
		}
	}
	if wrong.Missing != nil || wrong.Unknown != nil {
		return &wrong
	}
	return nil
}

// Quote returns s as one word of a POSIX shell, whatever octets but NUL are in it.
func Quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
