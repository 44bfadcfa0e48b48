package program

import (
	"fmt"
	"time"

	"builder/pkg/job"

	"github.com/spf13/pflag"
)

// Time is the value of a flag for a time, kept in p: from least to [job.MaxTime]. It
// is initially so much, and help names that unless it is 0.
func Time(p *time.Duration, initially, least time.Duration) pflag.Value {
	*p = initially
	return &timeValue{p, least}
}

type timeValue struct {
	at    *time.Duration
	least time.Duration
}

// Set implements pflag.Value.
func (v *timeValue) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < v.least || d > job.MaxTime {
		return fmt.Errorf("use %v to %.0fh (ten years), such as 90s, 20m or 2h30m", v.least, job.MaxTime.Hours())
	}
	*v.at = d
	return nil
}

// String implements pflag.Value.
func (v *timeValue) String() string {
	if *v.at == 0 {
		return ""
	}
	return v.at.String()
}

// Type implements pflag.Value.
func (*timeValue) Type() string { return "duration" }
