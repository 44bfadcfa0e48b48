package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/store"
)

const (
	indexJobs = 100
	// reproduced is how many builds in a row have the same main artifact.
	reproduced = 10
	// listed is how many builds are asked for.
	listed = 50
)

// index measures what is asked of the index of many builds, by a client, and how
// long a server takes to start that has to make it anew. The floor of that reads
// the records.
func index(ctx context.Context, b *bench) (_ []figure, err error) {
	builds := b.scale(100_000)
	err = b.fillStore(ctx, builds, indexJobs, func(d *store.Draft, i int) error {
		// One artifact of a few builds, one that all have.
		main := mainText(i)
		return errors.Join(d.Add("bin/hello", 0o755, strings.NewReader(main), int64(len(main))),
			d.Add("LICENSE", 0o644, strings.NewReader(trivial), int64(len(trivial))))
	})
	if err != nil {
		return nil, err
	}
	data := filepath.Join(b.dir, "data", "v1")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(data, "index.sqlite"+suffix)); err != nil {
			return nil, err
		}
	}
	begin := time.Now()
	s, err := b.startServer(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	rebuilt := time.Since(begin)
	floor, err := readRecords(filepath.Join(data, "builds"))
	if err != nil {
		return nil, err
	}
	of := fmt.Sprintf(", %d builds", builds)
	figures := []figure{{
		"start with the index removed" + of + ", builds/s", fmt.Sprintf("%.0f", perSecond(builds, rebuilt)),
		fmt.Sprintf("%.0f (list, read the records)", perSecond(builds, floor)), fmt.Sprintf("%.2f", floor.Seconds()/rebuilt.Seconds()), ">= 5000",
	}}
	c := s.client()
	defer c.Close() //nolint:errcheck // nothing is lost
	for _, q := range indexQuestions(builds) {
		took, err := ask(ctx, c, q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.name, err)
		}
		figures = append(figures, figure{
			q.name + of + ", client to client, median", took.Round(time.Microsecond).String(), "", "", "< 5ms",
		})
	}
	return figures, nil
}

// mainText is the main artifact of build i.
func mainText(i int) string {
	return "program " + strconv.Itoa(i/indexJobs/reproduced*indexJobs+i%indexJobs)
}

// question is one of those that people ask.
type question struct {
	name string
	ask  func(ctx context.Context, c *client.Client, i int) ([]job.Build, error)
	want int // builds in the answer
}

func indexQuestions(builds int) []question {
	return []question{
		{"latest 50", func(ctx context.Context, c *client.Client, _ int) ([]job.Build, error) {
			return c.Builds(ctx, "", listed)
		}, listed},
		{"latest 50 of a job", func(ctx context.Context, c *client.Client, i int) ([]job.Build, error) {
			return c.Builds(ctx, "job"+strconv.Itoa(i%indexJobs), listed)
		}, min(listed, builds/indexJobs)},
		{"by hash of what 10 have", func(ctx context.Context, c *client.Client, i int) ([]job.Build, error) {
			return c.Find(ctx, sha256.Sum256([]byte(mainText(i*7919%builds))), listed)
		}, min(reproduced, builds/indexJobs)},
		{"by hash of what all have, 50 of them", func(ctx context.Context, c *client.Client, _ int) ([]job.Build, error) {
			return c.Find(ctx, sha256.Sum256([]byte(trivial)), listed)
		}, listed},
	}
}

// ask is how long an answer takes, in the middle.
func ask(ctx context.Context, c *client.Client, q question) (time.Duration, error) {
	var took []time.Duration
	for i := range 201 {
		begin := time.Now()
		found, err := q.ask(ctx, c, i)
		if err == nil && len(found) != q.want {
			err = fmt.Errorf("%d builds are in the answer, not %d", len(found), q.want)
		}
		if err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	return median(took), nil
}

// readRecords is the floor.
func readRecords(dir string) (time.Duration, error) {
	begin := time.Now()
	err := eachFile(dir, func(name string) error {
		if filepath.Base(name) != "record" {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(f)
		return errors.Join(err, f.Close())
	})
	return time.Since(begin), err
}
