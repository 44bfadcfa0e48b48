package main

import (
	"fmt"

	"builder/pkg/job"

	"github.com/spf13/pflag"
)

// defaultUploadedDays is how long artifacts stay that a web frontend has: the
// reference keeps nothing then.
const defaultUploadedDays = 7

// keepFlags say how much of the disk builds may take.
type keepFlags struct {
	retention    job.Retention
	uploadedDays int64
	reserve      int64 // as server.Config has it

	bytesText, reserveText string
}

func (k *keepFlags) add(f *pflag.FlagSet) {
	f.Int64Var(&k.retention.Builds, "keep-builds", 0, "keep this `number` of each job's last builds on each platform; 0 for all")
	f.Int64Var(&k.retention.Days, "keep-days", 0, "keep builds for this `number` of days; 0 for ever")
	f.StringVar(&k.bytesText, "keep-bytes", "0", "keep each job's last builds up to this `size`, such as 10GiB; 0 for all")
	f.Int64Var(&k.uploadedDays, "keep-uploaded-days", defaultUploadedDays,
		"with --upload, keep artifacts for this `number` of days after the frontend has them; 0 for as long as their builds")
	f.StringVar(&k.reserveText, "reserve", "", "hand out no builds when less than this `size` is free in --dir; 0 for always (default: 5% of the disk, 1GiB at the most)")
}

// parse reads what was typed.
func (k *keepFlags) parse() error {
	for name, n := range map[string]int64{"keep-builds": k.retention.Builds, "keep-days": k.retention.Days, "keep-uploaded-days": k.uploadedDays} {
		if n < 0 {
			return fmt.Errorf("--%s %d: the number must not be negative", name, n)
		}
	}
	var err error
	if k.bytesText != "0" {
		if k.retention.Bytes, err = job.ParseSize(k.bytesText); err != nil {
			return fmt.Errorf("--keep-bytes: %w", err)
		}
	}
	switch k.reserveText {
	case "":
	case "0":
		k.reserve = -1
	default:
		if k.reserve, err = job.ParseSize(k.reserveText); err != nil {
			return fmt.Errorf("--reserve: %w", err)
		}
	}
	return job.Retention{Days: max(k.retention.Days, k.uploadedDays)}.Check()
}
