package program_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/program"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type settings struct {
	Name  string
	Slots int
	Env   []string
	On    bool
}

func (s *settings) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.StringVar(&s.Name, "name", "default", "")
	f.IntVar(&s.Slots, "slots", 1, "")
	f.StringArrayVar(&s.Env, "env", nil, "")
	f.BoolVar(&s.On, "on", false, "")
	return f
}

func TestReadConfig(t *testing.T) {
	tests := []struct {
		name, text string
		args       []string
		want       settings
		failure    string
	}{
		{"nothing", "", nil, settings{Name: "default", Slots: 1}, ""},
		{"all", "# a comment\n\n  name  a b \nslots 3\nenv A=1\nenv B=2 3\non\n", nil, settings{"a b", 3, []string{"A=1", "B=2 3"}, true}, ""},
		{"tabs", "name\tx\nslots \t 3\n", nil, settings{Name: "x", Slots: 3}, ""},
		{"a switch with its value", "on false\n", nil, settings{Name: "default", Slots: 1}, ""},
		{"the command line wins", "slots 3\nname x", []string{"--slots", "5"}, settings{Name: "x", Slots: 5}, ""},
		{"an unknown one", "name x\nslot 3\n", nil, settings{}, `:2: there is no setting "slot"`},
		{"a wrong value", "slots three\n", nil, settings{}, `:1: invalid argument "three"`},
		{"no value", "slots\n", nil, settings{}, `:1: invalid argument ""`},
		{"a line without end", "name " + strings.Repeat("x", 1<<20), nil, settings{}, "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got settings
			f := got.flags()
			if err := f.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "conf")
			if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			err := program.ReadConfig(f, file)
			if tt.failure != "" {
				if err == nil || !strings.Contains(err.Error(), tt.failure) {
					t.Fatalf("error %v, want %q", err, tt.failure)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := program.ReadConfig((&settings{}).flags(), "/nonexistent/conf"); err == nil {
		t.Error("a file that is missing is no error")
	}
}
