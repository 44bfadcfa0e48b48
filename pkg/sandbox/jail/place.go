package jail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"builder/pkg/job"
	"builder/pkg/sandbox"
)

// The place of a build, as it is called in the jail.
const (
	insideRoot   = "/builder"
	insideScript = insideRoot + "/script"
	insideOut    = insideRoot + "/out"
	insideHome   = insideRoot + "/home"
	insideTemp   = insideRoot + "/tmp"
)

// place is the Place of a Sandbox.
type place struct {
	sandbox    *Sandbox
	name       string
	root       string
	connection connection
	spec       sandbox.Spec
	env        []string
	out        *sandbox.Output
	ran        bool
	plugged    error // why its network could not be taken back; Destroy tries again, and tells
}

func newPlace(s *Sandbox, name string) *place {
	root := filepath.Join(s.dir(name), "root")
	return &place{sandbox: s, name: name, root: root, out: sandbox.NewOutput(root + insideOut)}
}

// furnish makes the directories of a build in the root.
func (p *place) furnish() error {
	if err := os.Mkdir(p.root+insideRoot, 0o755); err != nil {
		return err
	}
	return p.makeOwn(insideOut, insideHome, insideTemp)
}

// makeOwn makes directories of the build's user, but for those that are there. The
// root is looked into through os.Root: its links mean something in the jail only.
func (p *place) makeOwn(dirs ...string) error {
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // only looked into
	uid, gid, err := lookUp(root, p.sandbox.conf.User)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		err := root.Mkdir(dir[1:], 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = root.Chown(dir[1:], uid, gid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookUp finds a user in the jail's passwd(5): NAME:PASSWORD:UID:GID:...
func lookUp(root *os.Root, user string) (uid, gid int, err error) {
	text, err := root.ReadFile("etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, ":")
		if len(fields) < 4 || fields[0] != user {
			continue
		}
		if uid, err = strconv.Atoi(fields[2]); err == nil {
			gid, err = strconv.Atoi(fields[3])
		}
		return uid, gid, err
	}
	return 0, 0, fmt.Errorf("the jail has no user %q", user)
}

// enter makes the jail for a build. On an error the caller destroys the place.
func (p *place) enter(ctx context.Context, spec sandbox.Spec) (err error) {
	s := p.sandbox
	p.spec = spec
	if p.env, err = sandbox.Environment(spec, nil, insideHome, insideTemp, insideOut); err != nil {
		return err
	}
	if p.connection, err = s.connect(p.name, spec.Resources.NoNetwork); err != nil {
		return err
	}
	if err := p.fill(); err != nil {
		return err
	}
	if err := s.bound(ctx, p.name, spec.Resources); err != nil {
		return err
	}
	if err := s.plug(ctx, p.name, p.connection); err != nil {
		return err
	}
	conf := filepath.Join(s.dir(p.name), "jail.conf")
	text := jailConf(p.name, p.root, s.conf.Ruleset, p.connection.conf())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	if err := s.do(ctx, jailCreate(conf, p.name)); err != nil {
		return err
	}
	for _, command := range p.connection.inside() {
		if err := s.do(ctx, jailConfigure(p.name, command...)); err != nil {
			return err
		}
	}
	return nil
}

// fill writes what is known of the build.
func (p *place) fill() error {
	if err := sandbox.WriteScript(p.root+insideScript, p.spec.Script); err != nil {
		return err
	}
	if p.connection.None || p.sandbox.conf.Resolv == "" {
		return nil
	}
	text, err := os.ReadFile(p.sandbox.conf.Resolv)
	if err != nil {
		return fmt.Errorf("reading the addresses of name servers: %w", err)
	}
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // only looked into
	// It may be a link, to what a daemon of the host writes.
	if err := root.Remove("etc/resolv.conf"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return root.WriteFile("etc/resolv.conf", text, 0o644)
}

// bound keeps a jail that is not there yet within bounds.
func (s *Sandbox) bound(ctx context.Context, name string, res job.Resources) error {
	if res.Disk != 0 {
		if err := s.source.limit(ctx, name, res.Disk); err != nil {
			return err
		}
	}
	for _, rule := range rules(name, res) {
		if err := s.do(ctx, rctlAdd(rule)); err != nil {
			return err
		}
	}
	return nil
}

// Run implements [sandbox.Place].
func (p *place) Run(ctx context.Context, console io.Writer) (sandbox.Exit, error) {
	if p.ran {
		return sandbox.Exit{}, errors.New("running script: a place is used once")
	}
	p.ran = true
	script := []string{insideScript}
	if !bytes.HasPrefix(p.spec.Script, []byte("#!")) && !bytes.HasPrefix(p.spec.Script, []byte("\x7fELF")) {
		script = []string{"/bin/sh", insideScript}
	}
	args := jailRun(p.name, p.sandbox.conf.User, p.env, script...)
	program, err := exec.LookPath(args[0])
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("running script: %w", err)
	}
	args[0] = program
	exit, err := sandbox.Execute(ctx, sandbox.Command{Dir: "/", Args: args, Env: jailRunEnv(), Grace: p.spec.Grace}, console)
	if exit.Start.IsZero() {
		return exit, err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	if p.spec.Resources.Memory != 0 {
		buffer, failure := p.sandbox.run(late, messages()...)
		exit.OutOfMemory, err = exhausted(buffer, p.name), errors.Join(err, failure)
	}
	if removal := p.sandbox.kill(late, p.name); removal != nil {
		return exit, errors.Join(err, fmt.Errorf("ending jail: %w: %w", sandbox.ErrLeftover, removal))
	}
	// Its address is for the next build, also while this one waits to be delivered.
	if p.plugged = p.sandbox.unplug(late, p.name); p.plugged == nil {
		p.sandbox.disconnect(p.name)
	}
	return exit, err
}

// Artifacts implements [sandbox.Place].
func (p *place) Artifacts(check func(path string) error) ([]sandbox.Artifact, []sandbox.Note, error) {
	if replaced := p.intact(); replaced != nil {
		note := sandbox.Note{Path: ".", Text: "unreadable output directory: " + replaced.Error()}
		return nil, []sandbox.Note{note}, nil //nolint:nilerr // it is the build's doing
	}
	return p.out.Artifacts(check)
}

// intact tells whether the output directory still is where it was made. A build that
// runs as root of its jail could have a link lead to a directory of the host.
func (p *place) intact() error {
	info, err := os.Lstat(p.root + insideRoot)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("it was replaced")
	}
	return nil
}

// Name implements [sandbox.Place].
func (p *place) Name() string { return p.name }

// Origin implements [sandbox.Place].
func (p *place) Origin() string { return p.sandbox.source.origin() }

// Salvage implements [sandbox.Place].
func (p *place) Salvage(dir string) error {
	if err := p.intact(); err != nil {
		return fmt.Errorf("salvaging artifacts: %w", err)
	}
	return p.out.Salvage(dir)
}

// Destroy implements [sandbox.Place].
func (p *place) Destroy() error {
	p.out.Close()
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	err := errors.Join(p.plugged, p.sandbox.remove(ctx, p.name))
	p.sandbox.forget(p.name) // what could not be removed is for the next Sweep
	if err != nil {
		return fmt.Errorf("destroying jail %s: %w", p.name, err)
	}
	p.sandbox.Stock(ctx)
	return nil
}
