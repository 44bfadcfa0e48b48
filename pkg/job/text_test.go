package job_test

import (
	"testing"

	"builder/pkg/job"
)

func TestShorten(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"abcd", "abcd"},
		{"abcde", "abcd..."},
		{"abcéé", "abc..."},
		{"\xff\xff", "\xff\xff"},
	} {
		if got := job.Shorten(tt.text, 4); got != tt.want {
			t.Errorf("%q became %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	const text = "\n\x1b[1mnaïve\tline\r\nand another \x00"
	if got, want := job.Printable(text), "[1mnaïve line  and another"; got != want {
		t.Errorf("%q became %q, want %q", text, got, want)
	}
}
