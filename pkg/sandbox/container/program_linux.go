package container

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// program is the first process of a container, run by the image's /bin/sh. The file
// start sets what belongs to this build, and the script's command as arguments. It
//   - reaps what the script leaves behind, as every shell does while it waits;
//   - can not be killed from inside, nor stopped by TERM, which it has no trap for;
//   - writes the script's status to the workspace, in case that containerd loses
//     it. If a signal ended the script, a shell says so in words before. An empty line
//     at the start has it have room for that when the disk is full;
//   - when the build is to end, gives the rest the time that it needs;
//   - ends only when a worker is there that has the console open: what is in that FIFO
//     is gone with the container.
//
// The script's standard output and error are one pipe, so that their order is kept;
// they are joined in a shell of its own, since some shells say what they have to say
// of a command where its output goes. Bash as sh says nothing.
const program = `exec 2>/builder/exit
echo >&2
[ -z "$BASH_VERSION" ] || set +o posix
. /builder/control/start
(exec "$@" 2>&1)
code=$?
echo "$code" >&2
while [ -e /builder/control/stop ] && kill -0 -1; do sleep 0.05; done 2>/dev/null
{ true >/builder/control/end; } 2>/dev/null
exit "$code"`

// terminate is run in the container to have the build end. Stopped processes are
// woken to see it.
const terminate = `kill -TERM -1; kill -CONT -1`

// programName is what shells put before what they say of a script that can not be
// executed.
const programName = "builder: executing script"

// start is the text of the file start: variables, and the script's command.
func start(variables []string, script []byte) ([]byte, error) {
	var text bytes.Buffer
	for _, variable := range variables {
		key, value, _ := strings.Cut(variable, "=")
		if !identifier.MatchString(key) {
			return nil, fmt.Errorf("passing on variable %q: its value is not UTF-8, and its name none that a shell knows", key)
		}
		fmt.Fprintf(&text, "export %s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
	}
	command := insideScript
	if !bytes.HasPrefix(script, []byte("#!")) && !bytes.HasPrefix(script, []byte("\x7fELF")) {
		command = "/bin/sh " + command
	}
	fmt.Fprintf(&text, "set -- %s\n", command)
	return text.Bytes(), nil
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// written is what the first process has written of the script's end.
type written struct {
	code   int
	spoken bool // the shell said something, which it does when a signal ended the script
	whole  bool // or it is still running, or was killed
}

// signalBase is what a shell adds to the number of a signal.
const (
	signalBase = 128
	lastSignal = 64
)

// readWritten reads the file exit of a workspace, in which the build may have
// written anything.
func readWritten(work string) written {
	root, err := os.OpenRoot(work)
	if err != nil {
		return written{}
	}
	defer shut(root)
	f, err := root.OpenFile("exit", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return written{}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil || !bytes.HasSuffix(text, []byte("\n")) {
		return written{}
	}
	lines := strings.Split(strings.Trim(string(text), "\n"), "\n")
	code, err := strconv.ParseUint(lines[len(lines)-1], 10, 8)
	return written{code: int(code), spoken: len(lines) > 1, whole: err == nil}
}

// outcome tells a signal from an exit status, for which containerd has one number.
// Shells say nothing of INT and PIPE.
func outcome(code int, w written) (int, syscall.Signal) {
	signal := syscall.Signal(code - signalBase)
	switch {
	case code <= signalBase || code > signalBase+lastSignal:
		return code, 0
	case w.whole && w.code == code && !w.spoken && signal != syscall.SIGINT && signal != syscall.SIGPIPE:
		return code, 0
	}
	return 0, signal
}

// shut closes what was only read from: such a close has nothing to tell.
func shut(c io.Closer) { c.Close() }
