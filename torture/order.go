package main

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"builder/pkg/job"
)

// patient is a job whose runs are tried until they end by themselves, whatever
// happens to the workers.
var patient = job.Retries{Tries: 50}

// newOrder draws a job.
func newOrder(i int, random *rand.Rand, ledger string) order {
	o := order{
		job: job.Job{
			Name: fmt.Sprintf("job%03d", i), Platform: platform, Retries: patient,
			Limits: job.Limits{Grace: time.Second},
		},
		payload: payload{
			Seed: random.Uint64(), Lines: random.IntN(300), Long: random.IntN(4) == 0, Binary: random.IntN(4) == 0,
			Unended: random.IntN(3) == 0, Takes: rand64(random, 400*time.Millisecond), End: exits, Ledger: ledger,
			Files: newFiles(random),
		},
	}
	p := &o.payload
	switch dice := random.IntN(100); {
	case dice < 50: // quick
	case dice < 70:
		p.Takes = time.Second + rand64(random, 2*time.Second)
	case dice < 77:
		p.Takes = 4*time.Second + rand64(random, 4*time.Second)
	case dice < 81:
		p.Lines, p.Long = 20_000+random.IntN(20_000), false // else a few of them fill the disks
	case dice < 87:
		p.Code = 1 + random.IntN(3)
	case dice < 90:
		p.End, p.Code = dies, int(syscall.SIGKILL)
	case dice < 92:
		p.End, p.Stubborn, o.job.Limits.Timeout = hangs, random.IntN(2) == 0, 2*time.Second
	case dice < 94:
		p.End, o.job.Limits.Silence = hangs, 2*time.Second
	case dice < 96:
		p.Files = append(p.Files, file{Path: "too/large", Mode: 0o644, Seed: 1, Size: 100_000})
		o.job.Limits.MaxArtifacts = 99_999
	case dice < 98:
		p.Lines, p.Long, p.Unended, o.job.Limits.MaxConsole = 20_000, false, false, 256<<10
	default:
		p.Code, o.job.Retries = 1, job.Retries{Tries: 2, OnFailure: true}
	}
	if random.IntN(6) == 0 {
		o.job.Retries = job.Retries{OnFailure: o.job.Retries.OnFailure}
	}
	if i < few {
		keepFew(&o, random)
	}
	return o
}

// keepFew makes it a job of which not all builds are kept, and not much is printed: of
// those that are gone a frontend alone can tell.
func keepFew(o *order, random *rand.Rand) {
	o.job.Limits.MaxConsole, o.payload.Lines = 0, o.payload.Lines%300
	o.job.Retention = job.Retention{Builds: 1 + random.Int64N(2)}
	if random.IntN(3) == 0 {
		o.job.Retention = job.Retention{Bytes: 1 + random.Int64N(400_000)}
	}
}

// newFiles draws artifacts: some that other jobs have too.
func newFiles(random *rand.Rand) []file {
	var files []file
	for _, f := range []struct {
		file
		of int // one in so many builds has it
	}{
		{file{"empty", 0o644, 0, 0}, 3},
		{file{"small", 0o644, random.Uint64(), 1 + random.Int64N(2000)}, 2},
		{file{"bin/program", 0o755, random.Uint64(), random.Int64N(50_000)}, 3},
		{file{"a/deep/directory/of its own/shared", 0o644, 7, 30_000}, 3},
		{file{"shared", 0o644, uint64(random.IntN(4)), 300_000}, 3},
		{file{"twice/one", 0o644, 99, 5000}, 6},
		{file{"twice/two", 0o755, 99, 5000}, 6},
		{file{"large", 0o644, random.Uint64(), 1<<20 + random.Int64N(3<<20)}, 8},
	} {
		if random.IntN(f.of) == 0 {
			files = append(files, f.file)
		}
	}
	return files
}
