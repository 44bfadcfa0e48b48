package jail

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"builder/pkg/sandbox"
)

// Keep implements [sandbox.Place]. The jail is made again when somebody enters, with
// the build's files and without a network: its address is for other builds. Two files
// are added, beside the root, where builds do not reach:
//
//	kept.conf    the jail's configuration
//	enter        sh enter [-c COMMAND]: a shell with the build's directory and environment
func (p *place) Keep() (how string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	s := p.sandbox
	enter := filepath.Join(s.dir(p.name), "enter")
	how = "sh " + quote(enter)
	if _, err := os.Lstat(enter); err == nil {
		return how, nil
	}
	if p.env == nil { // attached again, and its worker was killed before it kept the place
		if p.env, err = sandbox.Environment(sandbox.Spec{}, nil, insideHome, insideTemp, insideOut); err != nil {
			return "", fmt.Errorf("keeping jail: %w", err)
		}
	}
	if err := p.rest(ctx); err != nil {
		return "", fmt.Errorf("keeping jail: %w", err)
	}
	conf := filepath.Join(s.dir(p.name), "kept.conf")
	text := jailConf(p.name, p.root, s.conf.Ruleset, []string{"ip4 = disable", "ip6 = disable"})
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("keeping jail: %w", err)
	}
	if err := os.WriteFile(enter, p.entrance(conf), 0o600); err != nil {
		return "", fmt.Errorf("keeping jail: %w", err)
	}
	return how, nil
}

// rest leaves nothing of a place but its files.
func (p *place) rest(ctx context.Context) error {
	if err := p.sandbox.leave(ctx, p.name); err != nil {
		return err
	}
	p.sandbox.disconnect(p.name)
	if err := p.intact(); err != nil {
		return err
	}
	return p.makeOwn(insideOut) // Artifacts removes an empty one
}

// entrance is a script that starts a shell as the build's script was started.
func (p *place) entrance(conf string) []byte {
	there := "jls -j " + quote(p.name) + " name >/dev/null 2>&1"
	run := jailRun(p.name, p.sandbox.conf.User, p.env, "/bin/sh")
	for i, word := range run {
		run[i] = quote(word)
	}
	return fmt.Appendf(nil, "%s ||\n\t%s || exit\nexec %s \"$@\"\n",
		there, strings.Join(jailCreate(quote(conf), quote(p.name)), " "), strings.Join(run, " "))
}

// quote makes one word of the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
