package job

import (
	"fmt"
	"strings"
)

// Kind is how a build ended, as the protocol tells it.
type Kind int

// The kinds. The values are those of the protocol's CHOICE.
const (
	// Exited: the script ended with exit status Code.
	Exited Kind = iota
	// Signalled: a signal ended the script. A positive Code is the signal's
	// POSIX number; the reference's workers send OCaml's negative ones.
	Signalled
	// Stopped: a signal stopped the script; sent by the reference only.
	Stopped
	// Failed: the build ended for another reason, told by Text and Cause.
	Failed
)

// Cause tells failed builds apart for programs. It travels as text, so a newer
// peer may send one that is not listed here.
type Cause string

// The causes of a Failed result.
const (
	Timeout     Cause = "timeout"    // ran longer than it may
	Silence     Cause = "silence"    // printed nothing for longer than it may
	TooLarge    Cause = "artifacts"  // left more than it may
	OutOfMemory Cause = "memory"     // needed more than it may
	Cancelled   Cause = "cancelled"  // somebody asked for it
	WorkerLost  Cause = "lost"       // the worker went away
	Restarted   Cause = "restarted"  // the worker was restarted, the script died with it
	ShutDown    Cause = "shutdown"   // the worker was told to end at once
	Setup       Cause = "setup"      // no script could be made: template or script missing
	NoSandbox   Cause = "no-sandbox" // the worker could make no place for it
	ServerSide  Cause = "server"     // the server could not keep what the build produced
)

// Result is how a build ended.
type Result struct {
	Kind  Kind
	Code  int64  // Exited, Signalled, Stopped
	Text  string // Failed: for people
	Cause Cause  // Failed: for programs; empty from a protocol-5 worker
}

// Failure is a Failed result.
func Failure(cause Cause, format string, args ...any) Result {
	return Result{Kind: Failed, Cause: cause, Text: fmt.Sprintf(format, args...)}
}

// Success reports whether the script ended with status 0.
func (r Result) Success() bool { return r.Kind == Exited && r.Code == 0 }

// Infrastructure reports whether the build ended for a reason that lies neither
// in the job nor in somebody's wish, so that trying again may help.
func (r Result) Infrastructure() bool {
	return r.WorkerEnded() || r.Kind == Failed && (r.Cause == NoSandbox || r.Cause == ServerSide)
}

// WorkerEnded reports whether the build ended since its worker did.
func (r Result) WorkerEnded() bool {
	return r.Kind == Failed && (r.Cause == WorkerLost || r.Cause == Restarted || r.Cause == ShutDown)
}

// Legacy is r as the reference would tell it: there a shell stands between the
// worker and the script, so death by signal n arrives as exit status 128+n, and
// builder-web can not read a signal's number.
func (r Result) Legacy() Result {
	if r.Kind == Signalled && r.Code > 0 {
		return Result{Kind: Exited, Code: 128 + r.Code}
	}
	return r
}

// String is r for people.
func (r Result) String() string {
	switch r.Kind {
	case Exited:
		return fmt.Sprintf("exited %d", r.Code)
	case Signalled:
		return "killed by " + signalName(r.Code)
	case Stopped:
		return "stopped by " + signalName(r.Code)
	case Failed:
		if r.Text == "" {
			return "failed"
		}
		return strings.ToValidUTF8(r.Text, "\uFFFD")
	}
	return fmt.Sprintf("unknown result %d", r.Kind)
}

// ocamlSignals are the names behind OCaml's negative signal numbers, -1 first
// (OCaml 4.14, module Sys).
var ocamlSignals = [...]string{
	"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM",
	"USR1", "USR2", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "VTALRM", "PROF", "BUS",
	"POLL", "SYS", "TRAP", "URG", "XCPU", "XFSZ",
}

// posixSignals are the numbers that Linux and FreeBSD share.
var posixSignals = map[int64]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 8: "FPE", 9: "KILL",
	11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM",
}

func signalName(code int64) string {
	if code < 0 && -code <= int64(len(ocamlSignals)) {
		return "SIG" + ocamlSignals[-code-1]
	}
	if name, ok := posixSignals[code]; ok {
		return "SIG" + name
	}
	return fmt.Sprintf("signal %d", code)
}
