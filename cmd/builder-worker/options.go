package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"builder/pkg/login"
	"builder/pkg/program"
	"builder/pkg/remote"
	"builder/pkg/wire"

	"github.com/spf13/cobra"
)

// options are the flags as typed.
type options struct {
	config                                 string
	remote, name, dir, isolation, logLevel string
	shutdownFile                           string
	persistent                             bool
	slots, maxRetries, protocol            int
	warm, keepFailed                       int
	maxDelay, keepAlive                    time.Duration
	env                                    []string

	store, storeAuthFile, storeCA string
	resources                     program.ResourceFlags
}

// readConfig sets what the command line leaves open.
func (o *options) readConfig(cmd *cobra.Command, _ []string) error {
	if o.config != "" {
		if err := program.ReadConfig(cmd.Flags(), o.config); err != nil {
			return err
		}
	}
	return misplaced(cmd.Flags(), o.isolation)
}

// check refuses values that mean nothing.
func (o options) check() error {
	switch {
	case o.protocol != 0 && o.protocol != wire.OwnVersion && o.protocol != wire.WorkerVersion:
		return fmt.Errorf("protocol %d is unknown: use %d or %d", o.protocol, wire.OwnVersion, wire.WorkerVersion)
	case o.slots < 1 || o.slots > maxSlots:
		return fmt.Errorf("--slots %d: use 1 to %d", o.slots, maxSlots)
	case o.slots > 1 && !o.persistent:
		return errors.New("--slots needs --persistent: without it the worker does one build")
	case o.warm < 0 || o.warm > maxSlots:
		return fmt.Errorf("--warm %d: use 0 to %d", o.warm, maxSlots)
	case o.keepFailed < 0 || o.keepFailed > maxSlots:
		return fmt.Errorf("--keep-failed=%d: use 0 to %d", o.keepFailed, maxSlots)
	case o.keepFailed > 0 && o.dir == "":
		return errors.New("--keep-failed needs --dir: without it all is gone when the worker ends")
	case o.maxRetries < 0:
		return fmt.Errorf("--max-retries %d is negative", o.maxRetries)
	case o.store == "" && (o.storeAuthFile != "" || o.storeCA != ""):
		return errors.New("--store-auth-file and --store-ca need --store")
	}
	return nil
}

// checkSettings is check for the settings alone: a worker may be told the rest besides
// the file that has them.
func (o options) checkSettings() error {
	o.persistent, o.dir = true, cmp.Or(o.dir, ".")
	return o.check()
}

// openStore makes the store that is named, nil if none is.
func (o options) openStore() (*remote.Store, error) {
	logins, err := login.Load(o.storeAuthFile, remote.Environment)
	if err != nil || o.store == "" {
		return nil, err
	}
	return remote.New(o.store, remote.Options{Logins: logins, CAFile: o.storeCA})
}

// maxSlots is the largest number of builds at once.
const maxSlots = 1000

// passedOn looks up the variables that are named without a value.
func passedOn(names []string) ([]string, error) {
	var env []string
	for _, name := range names {
		if key, _, _ := strings.Cut(name, "="); key == "" {
			return nil, fmt.Errorf("--env %q: the name is empty", name)
		}
		if !strings.Contains(name, "=") {
			value, ok := os.LookupEnv(name)
			if !ok {
				return nil, fmt.Errorf("--env %s: the worker's environment has no such variable", name)
			}
			name += "=" + value
		}
		env = append(env, name)
	}
	return env, nil
}
