package main

import "builder/pkg/client"

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
	RecordJSON  = recordJSON
	WriteJSON   = writeJSON
	Command     = command
	NewScreen   = newScreen
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
