package sandbox

import (
	"bytes"
	"os"
	"strconv"
)

// processesOf are the processes of which any user id is uid, but for this one and
// those that are dead.
func processesOf(uid uint32) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer shut(dir)
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	want := strconv.AppendUint(nil, uint64(uid), 10)
	var found []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		status, err := os.ReadFile("/proc/" + name + "/status")
		if err == nil && belongs(status, want) {
			found = append(found, pid)
		}
	}
	return found
}

// belongs reads /proc/PID/status, see proc_pid_status(5).
func belongs(status, uid []byte) bool {
	_, state, _ := bytes.Cut(status, []byte("\nState:\t"))
	if len(state) == 0 || state[0] == 'Z' || state[0] == 'X' {
		return false
	}
	_, ids, _ := bytes.Cut(state, []byte("\nUid:\t"))
	ids, _, _ = bytes.Cut(ids, []byte("\n"))
	for id := range bytes.FieldsSeq(ids) {
		if bytes.Equal(id, uid) {
			return true
		}
	}
	return false
}
