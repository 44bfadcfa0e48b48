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

func TestAboutSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1536: "1.5 KiB", 10 << 10: "10 KiB", 999 << 10: "999 KiB",
		1000 << 10: "1.0 MiB", 5 << 30: "5.0 GiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := job.AboutSize(n); got != want {
			t.Errorf("%d is about %s, want %s", n, got, want)
		}
	}
}
