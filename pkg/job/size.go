package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units of sizes, the largest first: those of 1024 end in i, as IEC 80000-13 has it.
var units = []struct {
	name   string
	octets int64
}{
	{"Ti", 1 << 40},
	{"T", 1e12},
	{"Gi", 1 << 30},
	{"G", 1e9},
	{"Mi", 1 << 20},
	{"M", 1e6},
	{"Ki", 1 << 10},
	{"k", 1e3},
	{"K", 1e3},
}

// ParseSize reads a whole positive number of octets, perhaps with a unit: 512MiB,
// 50GiB; 1G and 1GB are 10^9.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimSuffix(text, "B")
	factor := int64(1)
	for _, unit := range units {
		if rest, ok := strings.CutSuffix(digits, unit.name); ok {
			digits, factor = rest, unit.octets
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil || n <= 0 || digits[0] == '+':
		return 0, fmt.Errorf("size %q is not understood: use a positive number of octets, or with a unit as in 512MiB, 50GiB, 1GB", text)
	case n > math.MaxInt64/factor:
		return 0, fmt.Errorf("size %q is too large", text)
	}
	return n * factor, nil
}

// FormatSize is a number of octets as ParseSize reads it, in the largest unit that
// leaves nothing over.
func FormatSize(n int64) string {
	for _, unit := range units {
		if n != 0 && n%unit.octets == 0 {
			return strconv.FormatInt(n/unit.octets, 10) + unit.name + "B"
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// AboutSize is a number of octets for people who need no more than three digits of it.
func AboutSize(n int64) string {
	value, unit := float64(n), 0
	for names := "KMGTPE"; value >= 1000 && unit < len(names); unit++ {
		value /= 1024
	}
	switch {
	case unit == 0:
		return strconv.FormatInt(n, 10) + " B"
	case value < 10:
		return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit-1])
	}
	return fmt.Sprintf("%.0f %ciB", value, "KMGTPE"[unit-1])
}
