package life_test

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// setting is a number that the environment may set.
func setting(t *testing.T, name string, number int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return number
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// visit is how a state was reached first. States are known by a hash of 64 bits:
// that two of a million share one has a chance of one in ten millions.
type visit struct {
	from uint64
	name string
}

// explorer knows the states that were reached.
type explorer struct {
	seed  maphash.Seed
	known map[uint64]visit
}

// trace is how a state was reached.
func (e *explorer) trace(hash uint64) string {
	var names []string
	for v := e.known[hash]; v.name != ""; v = e.known[v.from] {
		names = append(names, v.name)
	}
	var text strings.Builder
	for i := range names {
		fmt.Fprintf(&text, "%3d %s\n", i+1, names[len(names)-1-i])
	}
	return text.String()
}

// TestModel explores all lives of a build with a bounded number of faults and
// wishes (MODEL_FAULTS), of a script that prints MODEL_LINES lines.
func TestModel(t *testing.T) {
	began := time.Now()
	faults, limit := setting(t, "MODEL_FAULTS", 2), setting(t, "MODEL_LINES", 1)
	e := &explorer{seed: maphash.MakeSeed(), known: map[uint64]visit{}}
	level := []state{begin(int8(limit), int8(faults)), beginLate(int8(limit), int8(faults))}
	for _, initial := range level {
		e.known[maphash.Comparable(e.seed, initial)] = visit{}
	}
	depth, events, final := 0, 0, 0
	for ; len(level) > 0; depth++ {
		var next []state
		for _, s := range level {
			from := maphash.Comparable(e.seed, s)
			if s.broken != "" {
				t.Fatalf("%s\n%s%+v", s.broken, e.trace(from), s)
			}
			stuck := true
			s.events(func(name string, fault bool, to state) {
				events++
				stuck = stuck && fault
				hash := maphash.Comparable(e.seed, to)
				if _, ok := e.known[hash]; !ok {
					e.known[hash] = visit{from, name}
					next = append(next, to)
				}
			})
			if stuck && !s.finished() {
				t.Fatalf("nothing goes on by itself\n%s%+v", e.trace(from), s)
			}
			if stuck {
				final++
			}
		}
		level = next
	}
	t.Logf("%d faults, %d lines: %d states, %d of them final, %d events, depth %d, in %v",
		faults, limit, len(e.known), final, events, depth-1, time.Since(began).Round(time.Millisecond))
	if final == 0 {
		t.Error("nothing has ended")
	}
}

// TestModelRandom walks beyond that: many faults, then none, until all has ended.
func TestModelRandom(t *testing.T) {
	seed := uint64(setting(t, "SEED", int(rand.Uint32())))
	walks := setting(t, "MODEL_WALKS", 1500)
	t.Logf("SEED=%d MODEL_WALKS=%d", seed, walks)
	r := rand.New(rand.NewPCG(seed, 0))
	longest := 0
	for walk := range walks {
		s := []func(lines, faults int8) state{begin, beginLate}[r.IntN(2)](int8(1+r.IntN(5)), int8(r.IntN(40)))
		var names []string
		for steps := 0; ; steps++ {
			type choice struct {
				name string
				to   state
			}
			var easy, faults []choice
			s.events(func(name string, fault bool, to state) {
				if fault {
					faults = append(faults, choice{name, to})
				} else {
					easy = append(easy, choice{name, to})
				}
			})
			choices := easy
			if len(faults) > 0 && (len(easy) == 0 || r.IntN(6) == 0) {
				choices = faults
			}
			if len(choices) == 0 || s.broken != "" || steps > 5000 {
				longest = max(longest, steps)
				break
			}
			c := choices[r.IntN(len(choices))]
			names = append(names, c.name)
			s = c.to
		}
		if s.broken != "" || !s.finished() {
			t.Fatalf("walk %d: %s\n%s\n%+v", walk, s.broken, strings.Join(names, "\n"), s)
		}
	}
	t.Logf("the longest walk had %d events", longest)
}
