package main

import (
	"regexp"
	"slices"
	"strings"
)

// compareSwitches tells how two opam switch exports differ: in the installed packages;
// in what defines those of which both have the same version, as "PACKAGE:FIELD"; and
// in the sources that a unikernel takes along, as "PACKAGE:DIRECTORY".
func compareSwitches(a, b string) []difference[string] {
	left, right := parseSwitch(a), parseSwitch(b)
	all, _ := differences(left.versions, right.versions)
	for name, version := range left.versions {
		there, both := right.versions[name]
		if !both {
			continue
		}
		found, _ := differences(left.sources[name], right.sources[name])
		if version == there {
			fields, _ := differences(left.definitions[name], right.definitions[name])
			found = append(found, fields...)
		}
		for _, d := range found {
			d.name = name + ":" + d.name
			all = append(all, d)
		}
	}
	sortDifferences(all)
	return all
}

// opamSwitch is what is compared of an export, by the names of packages.
type opamSwitch struct {
	versions    map[string]string // of those that are installed
	definitions map[string]map[string]string
	sources     map[string]map[string]string // by directory: the hashes, else the URL
}

func parseSwitch(text string) opamSwitch {
	s := opamSwitch{map[string]string{}, map[string]map[string]string{}, map[string]map[string]string{}}
	for _, i := range opamItems(opamToken.FindAllString(text, -1)) {
		switch {
		case i.name == "installed":
			for _, t := range i.body {
				if name, ok := opamString(t); ok {
					name, version, _ := strings.Cut(name, ".")
					s.versions[name] = version
				}
			}
		case i.name == "package" && len(i.body) >= 2:
			s.definitions[i.label], s.sources[i.label] = parseDefinition(i.body[1 : len(i.body)-1])
		}
	}
	return s
}

// sourcesField is where orb's unikernels have the sources that they are built with, as
// lists of URL, directory and list of hashes.
const sourcesField = "x-opam-monorepo-duniverse-dirs"

// withoutEffect are the fields of a package that change nothing of what it is.
var withoutEffect = []string{
	"opam-version", "name", "version", "maintainer", "author", "authors", "license", "homepage", "doc", "bug-reports", "dev-repo",
	"tags", "synopsis", "description", "messages", "post-messages", "pin-depends",
}

// parseDefinition reads what is in the section of a package.
func parseDefinition(tokens []string) (fields, sources map[string]string) {
	fields, sources = map[string]string{}, map[string]string{}
	for _, i := range opamItems(tokens) {
		switch {
		case i.name == sourcesField:
			for _, list := range opamLists(i.body) {
				if len(list) >= 2 {
					sources[list[1]] = strings.Join(list[2:], " ")
				}
				if len(list) == 2 {
					sources[list[1]] = list[0]
				}
			}
		case slices.Contains(withoutEffect, i.name), strings.HasPrefix(i.name, "x-"):
		default:
			text := strings.Join(slices.DeleteFunc(slices.Clone(i.body), isNewline), " ")
			fields[strings.TrimSpace(i.name+" "+i.label)] = text
		}
	}
	return fields, sources
}

// opamToken is one of opam's file format: a string, a comment, a bracket, another
// word, or the end of a line.
var opamToken = regexp.MustCompile(`(?s)""".*?"""|"(?:[^"\\]|\\.)*"|#[^\n]*|\(\*.*?\*\)|[][{}():]|[^][{}():"#\s]+|\n`)

// opamItem is NAME: BODY, or NAME "LABEL" { BODY }, whose body has its braces.
type opamItem struct {
	name, label string
	body        []string
}

// opamItems are the fields and sections that the tokens are; none if they are not
// complete. Each begins a line.
func opamItems(tokens []string) []opamItem {
	var all []opamItem
	depth, first := 0, true
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if begun, taken := beginItem(tokens[i:]); depth == 0 && first && taken > 0 {
			all = append(all, begun)
			i += taken - 1
			first = false
			continue
		}
		first = isNewline(t)
		switch {
		case first && depth == 0, strings.HasPrefix(t, "#"), strings.HasPrefix(t, "(*"):
			continue
		case t == "[" || t == "{" || t == "(":
			depth++
		case t == "]" || t == "}" || t == ")":
			depth--
		}
		if n := len(all); n > 0 {
			all[n-1].body = append(all[n-1].body, t)
		}
	}
	if depth != 0 {
		return nil
	}
	return all
}

// beginItem is the item that begins with these tokens, and how many of them come
// before its body; 0 if none does.
func beginItem(tokens []string) (i opamItem, taken int) {
	if len(tokens) < 2 || strings.ContainsAny(tokens[0][:1], `"[]{}():#`) {
		return i, 0
	}
	i.name = tokens[0]
	label, labelled := opamString(tokens[1])
	switch {
	case tokens[1] == ":":
		return i, 2
	case tokens[1] == "{":
		return i, 1
	case labelled && len(tokens) > 2 && tokens[2] == "{":
		i.label = label
		return i, 2
	}
	return i, 0
}

// opamLists are the strings of each list in a list of lists.
func opamLists(tokens []string) [][]string {
	var all [][]string
	depth := 0
	for _, t := range tokens {
		switch t {
		case "[":
			if depth++; depth == 2 {
				all = append(all, nil)
			}
		case "]":
			depth--
		}
		if text, ok := opamString(t); ok && depth >= 2 && len(all) > 0 {
			all[len(all)-1] = append(all[len(all)-1], text)
		}
	}
	return all
}

// opamString is the text of a token that is a string, escapes as they are.
func opamString(token string) (text string, ok bool) {
	if !strings.HasPrefix(token, `"`) {
		return "", false
	}
	return strings.Trim(token, `"`), true
}

func isNewline(token string) bool { return token == "\n" }
