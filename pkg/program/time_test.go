package program_test

import (
	"strings"
	"testing"
	"time"

	"builder/pkg/program"

	"github.com/spf13/pflag"
)

func TestTime(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1s":                   time.Second,
		"2h30m":                150 * time.Minute,
		"87672h":               3653 * 24 * time.Hour,
		"999ms":                0,
		"87672h0m0.000000001s": 0,
		"2562047h":             0, // the most that the type holds
		"9999999h":             0,
		"300y":                 0,
		"0":                    0,
		"-1h":                  0,
		"90":                   0,
		"soon":                 0,
		"":                     0,
	} {
		t.Run(text, func(t *testing.T) {
			var got time.Duration
			f := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.Var(program.Time(&got, time.Minute, time.Second), "timeout", "")
			err := f.Parse([]string{"--timeout", text})
			if want != 0 {
				if err != nil || got != want {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			told := `invalid argument "` + text + `" for "--timeout" flag: use 1s to 87672h (ten years), such as 90s, 20m or 2h30m`
			if err == nil || err.Error() != told || got != time.Minute {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// TestTimeInHelp: what a flag is by itself is shown, but not that it is nothing.
func TestTimeInHelp(t *testing.T) {
	var some, none time.Duration
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Var(program.Time(&some, time.Minute, 1), "some", "`time`")
	f.Var(program.Time(&none, 0, 1), "none", "`time`")
	help := f.FlagUsages()
	if !strings.Contains(help, "--some time   time (default 1m0s)") || !strings.Contains(help, "--none time   time\n") {
		t.Errorf("help is\n%s", help)
	}
}
