package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"builder/pkg/program"
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
	maxDelay, keepAlive                    time.Duration
	env                                    []string
	resources                              program.ResourceFlags
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
	case o.maxRetries < 0:
		return fmt.Errorf("--max-retries %d is negative", o.maxRetries)
	case o.maxDelay < time.Second:
		return fmt.Errorf("--max-delay %v: use 1s or more", o.maxDelay)
	case o.keepAlive < time.Second/10:
		return fmt.Errorf("--keepalive %v: use 100ms or more", o.keepAlive)
	}
	return nil
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
