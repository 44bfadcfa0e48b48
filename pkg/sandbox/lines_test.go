package sandbox_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
)

type piece struct {
	Text  string
	Since time.Duration
	Kind  sandbox.LineKind
}

// record returns a Lines and where it writes its pieces, those of Many one by one.
func record() (*sandbox.Lines, *[]piece) {
	pieces := new([]piece)
	return sandbox.NewLines(time.Now(), func(text []byte, since time.Duration, kind sandbox.LineKind) error {
		for kind == sandbox.Many {
			line, rest, more := bytes.Cut(text, []byte("\n"))
			*pieces = append(*pieces, piece{string(line), since, sandbox.Whole})
			if !more {
				return nil
			}
			text = rest
		}
		*pieces = append(*pieces, piece{string(text), since, kind})
		return nil
	}), pieces
}

func TestLinesPieces(t *testing.T) {
	long := strings.Repeat("x", sandbox.MaxLine)
	tests := []struct {
		name    string
		console string
		want    []piece
	}{
		{"nothing", "", nil},
		{"one line", "a\n", []piece{{"a", 0, sandbox.Whole}}},
		{"empty lines", "\n\n", []piece{{"", 0, sandbox.Whole}, {"", 0, sandbox.Whole}}},
		{"no newline at the end", "a\nb", []piece{{"a", 0, sandbox.Whole}, {"b", 0, sandbox.Last}}},
		{"carriage return stays", "a\r\nb\rc\n", []piece{{"a\r", 0, sandbox.Whole}, {"b\rc", 0, sandbox.Whole}}},
		{"any octets", "\x00\xff\xfe\n", []piece{{"\x00\xff\xfe", 0, sandbox.Whole}}},
		{"longest line", long + "\n", []piece{{long, 0, sandbox.Whole}}},
		{"longest line at the end", long, []piece{{long, 0, sandbox.Last}}},
		{"one octet more", long + "y\n", []piece{{long, 0, sandbox.Continued}, {"y", 0, sandbox.Whole}}},
		{"three pieces", long + long + "y", []piece{
			{long, 0, sandbox.Continued}, {long, 0, sandbox.Continued}, {"y", 0, sandbox.Last},
		}},
	}
	cuts := map[string]func(left int) int{
		"all at once":     func(left int) int { return left },
		"octet by octet":  func(int) int { return 1 },
		"like a pipe":     func(left int) int { return min(left, 64<<10) },
		"uneven":          func(left int) int { return min(left, 4097) },
		"one octet apart": func(left int) int { return max(1, left-1) },
	}
	for _, test := range tests {
		for cut, size := range cuts {
			t.Run(test.name+", "+cut, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lines, got := record()
					for rest := test.console; rest != ""; {
						n := size(len(rest))
						if _, err := lines.Write([]byte(rest[:n])); err != nil {
							t.Fatal(err)
						}
						rest = rest[n:]
					}
					if err := lines.Close(); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(test.want, *got); diff != "" {
						t.Error(diff)
					}
				})
			})
		}
	}
}

// Lines that come together stay together.
func TestLinesMany(t *testing.T) {
	long := strings.Repeat("x", sandbox.MaxLine-2)
	var got []piece
	lines := sandbox.NewLines(time.Now(), func(text []byte, _ time.Duration, kind sandbox.LineKind) error {
		got = append(got, piece{string(text), 0, kind})
		return nil
	})
	for _, text := range []string{"a\n", "b\n\nc\nd", "e\nf\ng\n", "a\n" + long + "\nc\n"} {
		if _, err := lines.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Close(); err != nil {
		t.Fatal(err)
	}
	want := []piece{
		{"a", 0, sandbox.Whole},
		{"b\n\nc", 0, sandbox.Many},
		{"de", 0, sandbox.Whole},
		{"f\ng", 0, sandbox.Many},
		{"a\n" + long, 0, sandbox.Many},
		{"c", 0, sandbox.Whole},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinesPartial(t *testing.T) {
	type step struct {
		after time.Duration
		text  string
	}
	const ms = time.Millisecond
	tests := []struct {
		name  string
		steps []step
		want  []piece
	}{
		{"a prompt", []step{{0, "name? "}, {time.Second, "x\n"}}, []piece{
			{"name? ", 200 * ms, sandbox.Partial}, {"name? x", 1000 * ms, sandbox.Whole},
		}},
		{"complete before it is due", []step{{0, "a"}, {199 * ms, "\n"}, {time.Second, ""}}, []piece{
			{"a", 199 * ms, sandbox.Whole},
		}},
		{"the next line has its own delay", []step{{0, "a"}, {150 * ms, "\nb"}, {time.Second, ""}}, []piece{
			{"a", 150 * ms, sandbox.Whole}, {"b", 350 * ms, sandbox.Partial}, {"b", 1150 * ms, sandbox.Last},
		}},
		{"dots", []step{{0, "."}, {150 * ms, "."}, {150 * ms, "."}, {150 * ms, "."}, {300 * ms, "\n"}}, []piece{
			{"..", 200 * ms, sandbox.Partial},
			{"...", 400 * ms, sandbox.Partial},
			{"....", 600 * ms, sandbox.Partial},
			{"....", 750 * ms, sandbox.Whole},
		}},
		{"growing after silence", []step{{0, "a"}, {time.Second, "b"}, {time.Second, ""}}, []piece{
			{"a", 200 * ms, sandbox.Partial}, {"ab", 1000 * ms, sandbox.Partial}, {"ab", 2000 * ms, sandbox.Last},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines, got := record()
				for _, step := range test.steps {
					time.Sleep(step.after)
					synctest.Wait()
					if _, err := lines.Write([]byte(step.text)); err != nil {
						t.Fatal(err)
					}
				}
				if err := lines.Close(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // nothing comes after Close
				if diff := cmp.Diff(test.want, *got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestLinesKeepEveryOctet joins the pieces of random consoles, cut at random and
// with random pauses, and wants them back.
func TestLinesKeepEveryOctet(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var console bytes.Buffer
			for range random.IntN(20) {
				console.Write(bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(100_000)))
				console.WriteString("\n"[:random.IntN(2)])
			}
			var joined []byte
			lines := sandbox.NewLines(time.Now(), func(text []byte, _ time.Duration, kind sandbox.LineKind) error {
				if kind == sandbox.Partial {
					return nil
				}
				joined = append(joined, text...)
				if kind == sandbox.Whole || kind == sandbox.Many {
					joined = append(joined, '\n')
				}
				return nil
			})
			for rest := console.Bytes(); len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(80_000))
				if _, err := lines.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			}
			if err := lines.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(joined, console.Bytes()) {
				t.Errorf("seed %d: %d octets came back of %d, or others", seed, len(joined), console.Len())
			}
		})
	}
}

func TestLinesError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		calls := 0
		lines := sandbox.NewLines(time.Now(), func([]byte, time.Duration, sandbox.LineKind) error {
			calls++
			return full
		})
		if _, err := lines.Write([]byte("partial")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the timer meets the error
		synctest.Wait()
		if _, err := lines.Write([]byte("a\n")); !errors.Is(err, full) {
			t.Errorf("Write: %v", err)
		}
		if err := lines.Close(); !errors.Is(err, full) {
			t.Errorf("Close: %v", err)
		}
		if calls != 1 {
			t.Errorf("%d calls after an error", calls-1)
		}
		if _, err := lines.Write([]byte("a\n")); err == nil {
			t.Error("Write after Close: no error")
		}
	})
}

func TestLinesDoNotAllocate(t *testing.T) {
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 655)
	lines := sandbox.NewLines(time.Now(), func([]byte, time.Duration, sandbox.LineKind) error { return nil })
	defer lines.Close()
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := lines.Write(chunk); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations in a write of 655 lines", allocations)
	}
}

func BenchmarkLines(b *testing.B) {
	console := bytes.Repeat([]byte(strings.Repeat("x", 100)+"\n"), 1_000_000)
	b.SetBytes(int64(len(console)))
	for b.Loop() {
		n := 0
		lines := sandbox.NewLines(time.Now(), func([]byte, time.Duration, sandbox.LineKind) error { n++; return nil })
		for rest := console; len(rest) > 0; {
			size := min(len(rest), 64<<10)
			if _, err := lines.Write(rest[:size]); err != nil {
				b.Fatal(err)
			}
			rest = rest[size:]
		}
		if err := lines.Close(); err != nil || n != 1_000_000 {
			b.Fatal(n, err)
		}
	}
}
