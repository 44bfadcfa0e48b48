package journal_test

import (
	"fmt"
	"testing"
)

// TestPowerCut ends the process in every single operation of a random history,
// then a few times more in the recovery from that.
func TestPowerCut(t *testing.T) {
	const steps = 12
	for _, seed := range seeds(t, 10) {
		whole := newLife(seed)
		if err := whole.run(steps); err != nil {
			t.Fatalf("seed %d without an end: %v", seed, err)
		}
		for n := range whole.disk.Ops() {
			for _, power := range []bool{true, false} {
				l := newLife(seed)
				l.end(n+1, power)
				err := l.run(steps)
				if !ended(err) {
					t.Fatalf("seed %d, operation %d, power %v: %v", seed, n+1, power, err)
				}
				l.restart(power)
				if err := l.recover(); err != nil {
					t.Fatalf("seed %d, operation %d, power %v: %v", seed, n+1, power, err)
				}
			}
		}
	}
}

// recover opens the journal again, with more ends on the way, and checks that it
// takes batches and keeps them.
func (l *life) recover() error {
	for range 3 {
		power := l.rng.IntN(2) == 0
		l.end(1+l.rng.IntN(15), power)
		err := l.run(3)
		if err != nil && !ended(err) {
			return fmt.Errorf("in recovery: %w", err)
		}
		l.restart(power)
	}
	if err := l.run(0); err != nil {
		return err
	}
	if err := l.append(l.batch()); err != nil {
		return err
	}
	l.restart(true)
	return l.run(0)
}

// TestFoundIsDurable: what a new process has found after the one before was
// killed in any operation is still there when the power is cut then, with what
// it may have appended.
func TestFoundIsDurable(t *testing.T) {
	for _, seed := range seeds(t, 100) {
		for n, more := 1, true; more; n++ {
			l := newLife(seed)
			l.end(n, false)
			err := l.run(0)
			if err == nil {
				err = l.append(l.batch())
			}
			if err != nil && !ended(err) {
				t.Fatal(err)
			}
			more = err != nil
			l.restart(false)
			if err := l.run(0); err != nil {
				t.Fatalf("seed %d, operation %d: %v", seed, n, err)
			}
			if seed%2 == 0 {
				if err := l.append(l.batch()); err != nil {
					t.Fatal(err)
				}
			}
			l.restart(true)
			if err := l.run(0); err != nil {
				t.Fatalf("seed %d, operation %d, then power cut: %v", seed, n, err)
			}
		}
	}
}
