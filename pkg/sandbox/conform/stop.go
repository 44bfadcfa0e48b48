package conform

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Stubborn ignores all that can be ignored, in every way of getting away that
// a shell has.
const Stubborn = `
trap '' TERM HUP INT
(setsid sh -c 'trap "" TERM; while :; do sleep 1000; done' &)
(setsid setsid sh -c '(sleep 1000 &) ; sleep 1000' &) &
nohup sleep 1000 >/dev/null 2>&1 &
sleep 1000 | sleep 1000 &
`

// leftovers are what a script leaves running when it ends: nothing.
func (s *suite) leftovers(t *testing.T) {
	tests := []struct{ name, script string }{
		{"the script ends", Stubborn + "sleep 0.1; exit 7"},
		{"with outputs closed", Stubborn + "exec >&- 2>&-; exit 7"},
		{"stopped processes", "(setsid sh -c 'kill -STOP $$' &); sh -c 'kill -STOP $$' & exit 7"},
		{"100 orphans", "i=0; while [ $i -lt 100 ]; do (sleep 1000 &); i=$((i+1)); done; exit 7"},
		{"forking faster than it can be looked at", `
			cat >f <<-'END'
			i=0; while [ $i -lt 500 ]; do setsid sh -c 'sleep 1000' & i=$((i+1)); done; wait
			END
			(setsid sh f &); (setsid sh f &); sleep 0.05; exit 7`},
		{"chain of forks", `
			cat >f <<-'END'
			[ $1 = 0 ] && exit; setsid sh f $(($1-1)) &
			END
			sh f 1000 & exit 7`},
	}
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			what, mark := spec(test.script)
			exit, _, err := runIn(t.Context(), s.prepare(t, what))
			dead(t, mark)
			if err != nil || exit.Code != 7 || exit.Cause != nil {
				t.Errorf("exit %+v, error %v", exit, err)
			}
		})
	}
}

// stop ends builds that run, in each way in which they take it.
func (s *suite) stop(t *testing.T) {
	cause := errors.New("cancelled by a person")
	tests := []struct {
		name, script string
		grace        time.Duration
		want         sandbox.Exit
		artifacts    int
	}{
		{"dies by TERM", "echo; sleep 1000", time.Minute, sandbox.Exit{Signal: syscall.SIGTERM}, 0},
		{"ends well at TERM", `trap 'echo >a; exit 5' TERM; echo; while :; do sleep 0.01; done`, time.Minute, sandbox.Exit{Code: 5}, 1},
		{"ignores TERM", "trap '' TERM; echo; while :; do sleep 1000; done", 50 * time.Millisecond, sandbox.Exit{Signal: syscall.SIGKILL}, 0},
		{"is stopped", "echo; kill -STOP $$", time.Minute, sandbox.Exit{Signal: syscall.SIGTERM}, 0},
		{"whole tree", Stubborn + "echo; wait", 50 * time.Millisecond, sandbox.Exit{Signal: syscall.SIGKILL}, 0},
		{
			"children have the grace period though the script does not use it",
			`(trap 'sleep 0.1; echo >a; exit' TERM; echo; while :; do sleep 0.01; done) & wait`,
			time.Minute,
			sandbox.Exit{Signal: syscall.SIGTERM},
			1,
		},
	}
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			what, mark := spec(test.script)
			what.Grace = test.grace
			place := s.prepare(t, what)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			exit, err := place.Run(ctx, AtOutput(func() { cancel(cause) }))
			dead(t, mark)
			if err != nil || !errors.Is(exit.Cause, cause) || exit.Code != test.want.Code || exit.Signal != test.want.Signal {
				t.Errorf("exit %+v, error %v, want %+v", exit, err, test.want)
			}
			if artifacts, _, err := place.Artifacts(nil); err != nil || len(artifacts) != test.artifacts {
				t.Errorf("artifacts %v, error %v", artifacts, err)
			}
		})
	}
}

func (s *suite) stoppedBefore(t *testing.T) {
	what, _ := spec("echo started")
	place := s.prepare(t, what)
	cause := errors.New("cancelled by a person")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	exit, console, err := runIn(ctx, place)
	if diff := cmp.Diff(sandbox.Exit{Cause: cause}, exit, cmpopts.EquateErrors()); diff != "" || console != "" || err != nil {
		t.Errorf("console %q, error %v, exit %s", console, err, diff)
	}
	if _, err := s.box.Prepare(ctx, what); !errors.Is(err, cause) {
		t.Errorf("preparing: %v", err)
	}
}
