package sandbox

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// processesOf are the processes of which any user id is uid, but for this one and
// those that are dead. See ps(1).
func processesOf(uid uint32) []int {
	out, err := exec.Command("/bin/ps", "-ax", "-o", "pid=", "-o", "uid=", "-o", "ruid=", "-o", "svuid=", "-o", "state=").Output()
	if err != nil {
		return nil
	}
	want := strconv.FormatUint(uint64(uid), 10)
	var found []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 5 || !slices.Contains(fields[1:4], want) || strings.HasPrefix(fields[4], "Z") {
			continue
		}
		if pid, err := strconv.Atoi(fields[0]); err == nil && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}
