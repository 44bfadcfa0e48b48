package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"builder/pkg/job"
)

const (
	// maxFileName is NAME_MAX of the file systems in use.
	maxFileName = 255
	// emptyName stands for the job without a name: "%" alone is no escape.
	emptyName = "%"
	// cut marks a name that was too long: what follows is its hash.
	cut = "%~"
)

// directoryName is the name of a job's directory. Names that we allow stand as
// they are; of others, taken over from the reference, every octet outside of
// [A-Za-z0-9_+-] becomes %XX, so "." and ".." and "/" can not appear. What would
// be longer than a file name may be keeps its beginning, and its SHA-256 in place
// of the rest; that is the one case that can not be undone.
func directoryName(jobName string) string {
	if job.CheckName("job", jobName) == nil {
		return jobName
	}
	if jobName == "" {
		return emptyName
	}
	var b strings.Builder
	for i := range len(jobName) {
		if c := jobName[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	name := b.String()
	if len(name) > maxFileName {
		sum := sha256.Sum256([]byte(jobName))
		hash := cut + hex.EncodeToString(sum[:])
		name = name[:maxFileName-len(hash)] + hash
	}
	return name
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_+-", c) >= 0
}

// jobName undoes directoryName for messages, when there is no record to ask. A
// name that was not made by it, or that was cut, is returned as it is.
func jobName(directory string) string {
	if directory == emptyName {
		return ""
	}
	var b strings.Builder
	for rest := directory; rest != ""; {
		if rest[0] != '%' {
			b.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		if len(rest) < 3 {
			return directory
		}
		octet, err := hex.DecodeString(rest[1:3])
		if err != nil {
			return directory
		}
		b.Write(octet)
		rest = rest[3:]
	}
	return b.String()
}
