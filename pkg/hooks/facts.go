package hooks

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// Facts are what a hook is told of a build. Text that is no UTF-8 has U+FFFD in place
// of what is not.
type Facts struct {
	Job      string     `json:"job"`
	UUID     uuid.UUID  `json:"uuid"`
	Platform string     `json:"platform"`
	Worker   string     `json:"worker"`
	Started  time.Time  `json:"started"` // RFC 3339, UTC
	Finished time.Time  `json:"finished"`
	Success  bool       `json:"success"` // exited with status 0
	Result   Result     `json:"result"`
	Files    []Artifact `json:"artifacts"`
	Main     *Artifact  `json:"main"` // null when there is no main binary
}

// Result is how a build ended.
type Result struct {
	Kind  string `json:"kind"` // exited, signalled, stopped or failed
	Code  int64  `json:"code"`
	Cause string `json:"cause"`
	Text  string `json:"text"`
}

// Artifact is a file that the build left.
type Artifact struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Mode   string `json:"mode"` // octal, as 0755
	// File has the contents, not to be changed; empty when the server does not have
	// them.
	File string `json:"file"`
}

var kinds = map[job.Kind]string{
	job.Exited: "exited", job.Signalled: "signalled", job.Stopped: "stopped", job.Failed: "failed",
}

// FactsOf are the facts of a build; file gives the file of a content, or "".
func FactsOf(b job.Build, file func(job.Content) string) Facts {
	facts := Facts{
		Job: b.Job, UUID: b.UUID, Platform: b.Platform, Worker: b.Worker,
		Started: b.Started.UTC(), Finished: b.Finished.UTC(), Success: b.Result.Success(),
		Result: Result{kinds[b.Result.Kind], b.Result.Code, string(b.Result.Cause), b.Result.String()},
		Files:  make([]Artifact, len(b.Artifacts)),
	}
	binaries := 0
	for i, a := range b.Artifacts {
		facts.Files[i] = Artifact{a.Path, a.Size, a.String(), fmt.Sprintf("%04o", a.Mode.Perm()), file(a.Content)}
		if strings.HasPrefix(a.Path, "bin/") {
			binaries++
			facts.Main = &facts.Files[i]
		}
	}
	if binaries > 1 {
		facts.Main = nil
	}
	return facts
}

func (f Facts) encode() ([]byte, error) {
	text, err := json.Marshal(f)
	return append(text, '\n'), err
}

// arguments are those that builder-web gives its hooks.
func (f Facts) arguments(d Dir) []string {
	args := []string{
		"--build-time=" + f.Started.Format("20060102150405"),
		"--job=" + f.Job, "--uuid=" + f.UUID.String(), "--platform=" + f.Platform,
		"--cache-dir=" + d.Cache, "--data-dir=" + d.Data,
	}
	if f.Main == nil || f.Main.File == "" {
		return args
	}
	return append(args, "--sha256="+f.Main.SHA256, "--main-binary-filepath="+f.Main.Path, f.Main.File)
}
