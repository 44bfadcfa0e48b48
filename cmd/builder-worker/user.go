package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"builder/pkg/disk"
	"builder/pkg/sandbox"

	"github.com/spf13/pflag"
)

// user is the kind in which builds run as other accounts.
type user struct{ runAs []string }

func (*user) name() string  { return "user" }
func (*user) about() string { return "a process of another account" }

func (u *user) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&u.runAs, "run-as", nil, "user: `accounts` that builds run as, one for each slot, separated by commas;\na worker that is not root's uses sudo")
}

// accounts looks up the accounts, of which there must be enough.
func (u *user) accounts(slots int) (found []sandbox.Account, err error) {
	if len(u.runAs) < slots {
		return nil, fmt.Errorf("%d are named, and there are %d slots", len(u.runAs), slots)
	}
	for _, name := range u.runAs {
		account, err := sandbox.LookupAccount(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		for _, other := range found {
			if other.UID == account.UID {
				return nil, fmt.Errorf("%s and %s are one user: a build would kill the other", other.Name, account.Name)
			}
		}
		found = append(found, account)
	}
	return found, nil
}

func (u *user) check(_ context.Context, s site) []sandbox.Finding {
	accounts, err := u.accounts(s.slots)
	findings := []sandbox.Finding{{
		What: strings.TrimSpace("accounts " + strings.Join(u.runAs, ", ")), Err: err,
		Help: "name one account for each slot with --run-as; useradd --system --no-create-home NAME makes one (FreeBSD: pw useradd NAME)",
	}}
	if s.dir != nil {
		findings = append(findings, sandbox.Finding{
			What: "way to " + s.dir.Path, Err: sandbox.Reachable(filepath.Dir(s.dir.Path)),
			Help: "chmod o+x that directory, or use another --dir",
		})
	}
	switch {
	case os.Geteuid() == 0 && runtime.GOOS != "linux": // credentials are all that it needs
	case os.Geteuid() == 0:
		findings = append(findings, namespacesWork())
	default:
		for _, account := range accounts {
			findings = append(findings, sudoWorks(account))
		}
	}
	return findings
}

// sudoWorks tries to become an account. The program must be within its reach.
func sudoWorks(account sandbox.Account) sandbox.Finding {
	f := sandbox.Finding{What: "sudo to " + account.Name, Err: sandbox.TrySudo(account)}
	if f.Err == nil {
		return f
	}
	program, err := os.Executable()
	if err != nil {
		f.Err = err
		return f
	}
	f.Help = fmt.Sprintf("install sudo; in /etc/sudoers.d/builder-worker: USER ALL=(%s) NOPASSWD: %s, with the worker's user for USER", account.Name, program)
	if namespaces := namespacesWork(); namespaces.Err != nil {
		f.Help += "; " + namespaces.Help
	} else if unreachable := sandbox.Reachable(program); unreachable != nil {
		f.Help += "; " + unreachable.Error()
	}
	return f
}

func (u *user) open(_ context.Context, s site) (closingSandbox, error) {
	accounts, err := u.accounts(s.slots)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(s.dir.Path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir.Path, info.Mode().Perm()|0o011); err != nil { // a way to the builds, not a look at the rest
		return nil, err
	}
	release, err := claim(accounts, s.trial)
	if err != nil {
		return nil, err
	}
	box, err := sandbox.NewFenced(s.dir.Builds(), max(s.slots, s.warm), sandbox.Fence{Worker: s.dir.ID.String(), Accounts: accounts})
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return claiming{box, release}, nil
}

// claims has a directory for each account that a worker of root's uses, named by number.
const claims = "/var/run/builder-worker/accounts"

// claim keeps other workers from accounts, until release: one kills whatever runs as an
// account. Workers that are not root's have no place that they all can write to, and
// nobody else.
func claim(accounts []sandbox.Account, trial bool) (release func() error, err error) {
	var held []func() error
	release = func() (err error) {
		for _, unlock := range held {
			err = errors.Join(err, unlock())
		}
		return err
	}
	if trial || os.Geteuid() != 0 {
		return release, nil
	}
	for _, account := range accounts {
		dir := filepath.Join(claims, strconv.FormatUint(uint64(account.UID), 10))
		var unlock func() error
		if err = os.MkdirAll(dir, 0o700); err == nil {
			unlock, err = disk.Lock(dir)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("account %s can not be had, one worker at a time has it: %w", account.Name, err), release())
		}
		held = append(held, unlock)
	}
	return release, nil
}

// claiming is a sandbox with its claims.
type claiming struct {
	closingSandbox
	release func() error
}

func (c claiming) Close() error { return errors.Join(c.closingSandbox.Close(), c.release()) }
