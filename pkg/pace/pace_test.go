package pace_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/pace"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	errStuck   = errors.New("stuck")
	errTooSlow = errors.New("too slow")
)

func TestWatch(t *testing.T) {
	const size = 16 << 20 // two seconds to digest
	for name, tt := range map[string]struct {
		send  func(moved func(left int64))
		cause error
		after time.Duration
	}{
		"nothing is taken":    {func(func(int64)) {}, errStuck, time.Second},
		"it stops taking":     {func(moved func(int64)) { time.Sleep(500 * time.Millisecond); moved(1) }, errStuck, 1500 * time.Millisecond},
		"no answer":           {func(moved func(int64)) { moved(0) }, errStuck, 3 * time.Second},
		"always a little":     {func(moved func(int64)) { trickle(moved) }, errTooSlow, 10*time.Second + 16*time.Second},
		"the caller has done": {nil, context.Canceled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				bounds := pace.Bounds{Stall: time.Second, Stuck: errStuck, Least: 10 * time.Second, Rate: 1 << 20, TooSlow: errTooSlow}
				ctx, moved, stop := bounds.Watch(t.Context(), size)
				defer stop()
				if tt.send == nil {
					stop()
				} else {
					tt.send(moved)
				}
				<-ctx.Done()
				if diff := cmp.Diff(tt.cause, context.Cause(ctx), cmpopts.EquateErrors()); diff != "" {
					t.Errorf("cause (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.after, time.Since(begun)); diff != "" {
					t.Errorf("it ended after (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// trickle takes an octet now and then, for longer than is allowed.
func trickle(moved func(left int64)) {
	for range 52 {
		time.Sleep(500 * time.Millisecond)
		moved(1)
	}
}
