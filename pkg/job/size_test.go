package job_test

import (
	"testing"

	"builder/pkg/job"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1":                   1,
		"4096":                4096,
		"4096B":               4096,
		"512MiB":              512 << 20,
		"512Mi":               512 << 20,
		"50GiB":               50 << 30,
		"1G":                  1e9,
		"1GB":                 1e9,
		"3k":                  3000,
		"3KB":                 3000,
		"2TiB":                2 << 40,
		"8388607TiB":          8388607 << 40,
		"8388608TiB":          0,
		"9223372036854775808": 0,
		"":                    0,
		"B":                   0,
		"GiB":                 0,
		"0":                   0,
		"-1":                  0,
		"+1":                  0,
		"1.5GiB":              0,
		"1 GiB":               0,
		"1gib":                0,
		"1GiBB":               0,
		"1PiB":                0,
	} {
		t.Run(text, func(t *testing.T) {
			got, err := job.ParseSize(text)
			if got != want || (err != nil) != (want == 0) {
				t.Fatalf("got %d, %v, want %d", got, err, want)
			}
			if want == 0 {
				return
			}
			if again, err := job.ParseSize(job.FormatSize(got)); err != nil || again != got {
				t.Errorf("it is shown as %s, which is %d, %v", job.FormatSize(got), again, err)
			}
		})
	}
}
