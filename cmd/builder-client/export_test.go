package main

import (
	"builder/pkg/client"
	"builder/pkg/job"
)

// Main is the program, for the tests' scripts.
var Main = main

// What is decided without a server.
var (
	ParseTime   = parseTime
	Relative    = relative
	Quoted      = quoted
	Harmless    = harmless
	WriteStatus = writeStatus
	StatusJSON  = statusJSON
	OutboxJSON  = outboxJSON
	WriteOutbox = writeOutbox
	RecordJSON  = recordJSON
	WriteJSON   = writeJSON
	Command     = command
	NewScreen   = newScreen

	FoundJSON = foundJSON
	Chosen    = chosen
	Octets    = octets

	ParseSwitch      = parseSwitch
	ParseEnvironment = parseEnvironment
	ParsePackages    = parsePackages
)

// Watched is a screen with what its viewer calls.
type Watched = screen

// ViewerOf is what a screen is shown builds by.
func ViewerOf(s *Watched) client.Viewer { return s.viewer() }

// OnTerminal makes a screen take its output for a terminal.
func OnTerminal(s *Watched) *Watched {
	s.terminal = true
	return s
}

// ComparisonJSON is a comparison of builds that differ in everything that can.
func ComparisonJSON() any {
	line := []difference[string]{{name: "a", change: changed, a: "1", b: "2"}}
	content := []difference[job.Content]{{name: "a", change: changed, a: job.ContentOf(nil), b: job.ContentOf([]byte("x"))}}
	return comparisonJSON(comparison{artifacts: content, inputs: []inputComparison{{path: "opam-switch", lines: line}}})
}

// LettersOf gives the main artifacts of builds their letters.
func LettersOf(outputs []job.Output) []string {
	list := make([]listed, len(outputs))
	for i, o := range outputs {
		list[i].output = o
	}
	return lettersOf(list)
}

// ListedJSON is a build in a list.
func ListedJSON(b job.Build, o job.Output) any { return listedJSON(listed{Build: b, output: o}) }
