package program

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
)

// ReadConfig sets flags from a file: one in a line, its name without dashes, then
// its value; a switch needs none. Empty lines and those that begin with # count for
// nothing. A flag that was given on the command line is left as it is; one that may
// be repeated may have several lines.
func ReadConfig(f *pflag.FlagSet, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	defer file.Close()
	given := map[string]bool{}
	f.Visit(func(flag *pflag.Flag) { given[flag.Name] = true })
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key := line
		if end := strings.IndexFunc(line, unicode.IsSpace); end >= 0 {
			key = line[:end]
		}
		value := strings.TrimSpace(line[len(key):])
		flag := f.Lookup(key)
		switch {
		case flag == nil:
			return Usage(fmt.Errorf("%s:%d: there is no setting %q; the settings are the flags without their dashes", name, n, key))
		case given[key]:
			continue
		case value == "":
			value = flag.NoOptDefVal // of a switch
		}
		if err := f.Set(key, value); err != nil {
			return Usage(fmt.Errorf("%s:%d: %w", name, n, err))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading configuration %s: %w", name, err)
	}
	return nil
}
