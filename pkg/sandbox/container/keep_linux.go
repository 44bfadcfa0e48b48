package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
)

// idle is the first process of a container that people enter, in place of program. It
// reaps what they leave behind.
const idle = `while :; do sleep 3600; done`

// entrance is what people run on the host: it starts the container if nobody has done
// so before, and a shell in it. %[1]s is ctr with its flags, %[2]s the container.
const entrance = `set -e
%[1]s tasks ls -q | grep -qx %[2]s || %[1]s tasks start --detach --null-io %[2]s
terminal=
if [ -t 0 ] && [ -t 1 ]; then terminal=-t; fi
exec %[1]s tasks exec --exec-id "enter-$$" $terminal %[2]s /bin/sh ` + insideEnter + ` "$@"
`

// Keep implements [sandbox.Place]. The place gets two more files:
//
//	enter            sh enter [-c COMMAND]: a shell in the container
//	control/enter    what that runs, with the build's variables
//
// The container is not running until somebody enters it.
func (p *place) Keep() (how string, err error) {
	if how, err = p.keep(); err != nil {
		return "", fmt.Errorf("keeping container: %w", err)
	}
	return how, nil
}

func (p *place) keep() (how string, err error) {
	if p.container == nil {
		return "", errors.New("it is gone")
	}
	how = "sh " + quote(filepath.Join(string(p.workspace()), "enter"))
	if p.kept() {
		return how, nil // and somebody may be in it
	}
	start, err := os.ReadFile(p.workspace().start())
	if err != nil {
		return "", err
	}
	variables := start[:bytes.LastIndexByte(bytes.TrimSuffix(start, []byte("\n")), '\n')+1] // without the script's command
	text := append(variables, "cd "+insideOut+"; exec /bin/sh \"$@\"\n"...)
	if err := os.WriteFile(filepath.Join(p.workspace().control(), "enter"), text, 0o444); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	if err := removeTask(ctx, p.container); err != nil {
		return "", err
	}
	p.attached = false
	if err := p.workspace().remake(); err != nil { // Artifacts removes an empty one
		return "", err
	}
	if err := p.container.Update(ctx, p.idle); err != nil {
		return "", err
	}
	ctr := fmt.Sprintf("ctr -a %s -n %s", quote(p.sandbox.conf.Socket), Namespace)
	entrance := fmt.Sprintf(entrance, ctr, p.name)
	return how, os.WriteFile(filepath.Join(string(p.workspace()), "enter"), []byte(entrance), 0o600)
}

// kept reports whether an earlier process, or this one, has kept the place.
func (p *place) kept() bool {
	_, err := os.Lstat(filepath.Join(string(p.workspace()), "enter"))
	return err == nil
}

// idle has the container run nothing.
func (p *place) idle(ctx context.Context, _ *client.Client, c *containers.Container) error {
	spec, err := p.container.Spec(ctx)
	if err != nil {
		return err
	}
	spec.Process.Args = []string{"/bin/sh", "-c", idle}
	c.Spec, err = typeurl.MarshalAny(spec)
	return err
}

// quote makes one word of the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
