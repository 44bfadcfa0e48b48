package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"

	"golang.org/x/sys/unix"
)

// Main is the TestMain of a package that calls Run: the test binary is started again
// to be a supervisor, or a worker that is killed.
func Main(m *testing.M, kinds ...Kind) {
	var err error
	switch name := os.Getenv(kindVariable); {
	case sandbox.IsSupervisor():
		Exit(sandbox.Supervise())
	case name != "":
		err = fmt.Errorf("there is no kind %q", name)
		for _, kind := range kinds {
			if kind.Name == name {
				err = work(kind)
			}
		}
	default:
		m.Run() // the status is its affair
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // whoever waits for this process to say something finds that it does not
	}
}

// Exit ends a process that is not the one of the tests. One that looks for races would
// sleep for a second first, and there are hundreds.
func Exit(err error) {
	code := 0
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	unix.Exit(code)
}

// What a worker is told, by its environment.
const (
	kindVariable   = "CONFORM_KIND"
	dirVariable    = "CONFORM_DIR"
	idVariable     = "CONFORM_ID"
	phaseVariable  = "CONFORM_PHASE"
	scriptVariable = "CONFORM_SCRIPT"
	markVariable   = "CONFORM_MARK"
)

// phase is what a worker has come to in the life of a build.
type phase string

const (
	atOpened    phase = "opened"
	atPrepared  phase = "prepared"
	atRunning   phase = "running"  // the script has printed something
	atStopping  phase = "stopping" // it has heard TERM
	atEnded     phase = "ended"
	atCollected phase = "collected"
	atKept      phase = "kept" // only if told
	atDestroyed phase = "destroyed"
	never       phase = "" // it does one build after the other
)

// work is a worker's life until it is killed. It says each phase that it has come to,
// and stays in the one that it was told.
func work(kind Kind) error {
	site := Site{Dir: os.Getenv(dirVariable), ID: os.Getenv(idVariable), Slots: 1}
	last := phase(os.Getenv(phaseVariable))
	box, err := kind.Open(site)
	if err != nil {
		return err
	}
	defer box.Close()
	for {
		if err := build(box, last); err != nil {
			return err
		}
	}
}

// reach says that a phase has come; it does not return from the last one.
func reach(now, last phase, name string) error {
	if _, err := fmt.Fprintf(os.Stdout, "%s %s\n", now, name); err != nil {
		return err
	}
	if now != last {
		return nil
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return errors.New("nobody has killed this worker")
}

func build(box Box, last phase) error {
	if err := reach(atOpened, last, ""); err != nil {
		return err
	}
	what, _ := spec(os.Getenv(scriptVariable))
	what.Env = []string{markVariable + "=" + os.Getenv(markVariable)}
	what.Grace, what.Resources = time.Hour, everything(box)
	place, err := box.Prepare(context.Background(), what)
	if err != nil {
		return err
	}
	name := place.Name()
	if err := reach(atPrepared, last, name); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if _, err := place.Run(ctx, told{last, name, stop}); err != nil {
		return err
	}
	if err := reach(atEnded, last, name); err != nil {
		return err
	}
	if _, _, err := place.Artifacts(nil); err != nil {
		return err
	}
	if err := reach(atCollected, last, name); err != nil {
		return err
	}
	if last == atKept {
		if _, err := place.Keep(); err != nil {
			return err
		}
		if err := reach(atKept, last, name); err != nil {
			return err
		}
	}
	if err := place.Destroy(); err != nil {
		return err
	}
	return reach(atDestroyed, last, name)
}

// everything are all bounds that a sandbox keeps, too wide to matter: what is made for
// them on the machine does.
func everything(box Box) (all job.Resources) {
	for _, bound := range []job.Resources{{CPUs: 100_000}, {Memory: 1 << 30}, {PIDs: 10_000}, {Disk: 64 << 20}, {NoNetwork: true}} {
		if box.Enforces(bound) == nil {
			all = all.Within(bound)
		}
	}
	return all
}

// told is the console of a worker's build: a script says "running", and "stopping"
// when it has heard TERM.
type told struct {
	last phase
	name string
	stop context.CancelFunc
}

func (c told) Write(text []byte) (int, error) {
	for _, at := range []phase{atRunning, atStopping} {
		if !bytes.Contains(text, []byte(at)) {
			continue
		}
		if at == atRunning && c.last == atStopping {
			c.stop()
		}
		if err := reach(at, c.last, c.name); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}
