package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// threeItems is a state file, and the offsets at which its entries begin.
func threeItems(t *testing.T) (state []byte, offsets []int64) {
	t.Helper()
	var items []wire.StateItem
	for _, name := range []string{"a", "bb", "ccc"} {
		items = append(items, wire.StateItem{Dropped: &name})
	}
	state = encoded(t, wire.EncodeState(items))
	offset := int64(2)
	for _, item := range items {
		offsets = append(offsets, offset)
		offset += 4 + int64(len(*item.Dropped))
	}
	return state, offsets
}

// TestStateDamage: a damaged state is never taken for a shorter one, and the
// error says where the damaged entry begins.
func TestStateDamage(t *testing.T) {
	state, offsets := threeItems(t)
	for n := range state {
		items, err := decodeState(state[:n])
		if err == nil {
			t.Errorf("cut to %d octets: read %d entries", n, len(items))
		}
	}
	for i, offset := range offsets {
		damaged := bytes.Clone(state)
		damaged[offset] = 0xa6 // no entry has that tag
		items, err := decodeState(damaged)
		if want := fmt.Sprintf("offset %d:", offset); err == nil || !strings.Contains(err.Error(), want) || len(items) != i {
			t.Errorf("entry %d damaged: read %d entries, %v, want %q", i, len(items), err, want)
		}
	}
	if items, err := decodeState(append(state, 0)); err == nil {
		t.Errorf("an octet behind it: read %d entries", len(items))
	}
}

func TestStateOldEntries(t *testing.T) {
	warned := 0
	for _, v := range readVectors(t) {
		if v.Name != "old_state_mixed" {
			continue
		}
		err := wire.ReadState(bytes.NewReader(v.der), int64(len(v.der)), func(item wire.StateItem) error {
			if item.Ignored != "" {
				warned++
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if warned != 2 {
		t.Errorf("%d entries were ignored with a reason, want 2", warned)
	}
}

func TestVisitorErrors(t *testing.T) {
	stop := errors.New("stop")
	state, _ := threeItems(t)
	visited := 0
	err := wire.ReadState(bytes.NewReader(state), int64(len(state)), func(wire.StateItem) error {
		visited++
		return stop
	})
	if !errors.Is(err, stop) || visited != 1 {
		t.Errorf("state: %d visits, %v", visited, err)
	}
	result := encoded(t, encodeExec(execFile{
		Exec:    wire.Exec{Started: ownTime, Finished: ownTime},
		Console: []job.Line{{Data: []byte("a")}, {Data: []byte("b")}},
		Files:   []wire.File{{Path: "a"}, {Path: "b"}},
	}))
	for name, visitor := range map[string]wire.ExecVisitor{
		"line": {Line: func(time.Duration, io.Reader, int64) error { return stop }},
		"file": {File: func(string, io.Reader, int64) error { return stop }},
	} {
		if _, err := wire.ReadExec(bytes.NewReader(result), int64(len(result)), visitor); !errors.Is(err, stop) {
			t.Errorf("%s: got %v, want %v", name, err, stop)
		}
	}
	if e, err := wire.ReadExec(bytes.NewReader(result), int64(len(result)), wire.ExecVisitor{}); err != nil || !e.Started.Equal(ownTime.Truncate(time.Millisecond)) {
		t.Errorf("without visitors: %+v, %v", e, err)
	}
}

func TestConsoleLineSize(t *testing.T) {
	for _, delta := range []time.Duration{0, -1, 127, 128, time.Hour, 1<<63 - 1, -1 << 63} {
		for _, length := range []int{0, 1, 115, 116, 127, 128, 300, 70_000} {
			line := wire.AppendConsoleLine(nil, delta, make([]byte, length))
			if got := wire.ConsoleLineSize(delta, int64(length)); got != int64(len(line)) {
				t.Errorf("ConsoleLineSize(%d, %d) = %d, want %d", delta, length, got, len(line))
			}
			r := der.NewReader(line)
			in := r.Enter(der.Sequence)
			in.Int()
			in.Octets()
			in.Done()
			if r.Done(); r.Err() != nil {
				t.Errorf("delta %d, %d octets: %v", delta, length, r.Err())
			}
		}
	}
}
