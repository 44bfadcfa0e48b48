package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
)

// namespaces is a Plain with a fence, and the worker's own user.
var namespaces = conform.Kind{
	Name: "namespaces",
	Open: func(site conform.Site) (conform.Box, error) {
		return sandbox.NewFenced(site.Dir, site.Slots, sandbox.Fence{Worker: site.ID})
	},
	Promises: conform.Promises{NoNetwork: true, Private: true, Kept: true},
}

// accounts is one with accounts, which a worker finds in its environment.
var accounts = conform.Kind{
	Name: "accounts",
	Open: func(site conform.Site) (conform.Box, error) {
		fence := sandbox.Fence{Worker: site.ID}
		for _, name := range strings.Fields(os.Getenv(accountsVariable)) {
			a, err := sandbox.LookupAccount(name)
			if err != nil {
				return nil, err
			}
			fence.Accounts = append(fence.Accounts, a)
		}
		if err := os.Chmod(filepath.Dir(site.Dir), 0o711); err != nil { // a test's directory is closed
			return nil, err
		}
		return sandbox.NewFenced(site.Dir, site.Slots, fence)
	},
	Promises: conform.Promises{NoNetwork: true, Private: true, PIDs: true, Kept: true},
}

const accountsVariable = "SANDBOX_TEST_ACCOUNTS"

func TestNamespaces(t *testing.T) {
	if err := sandbox.TryNamespaces(); err != nil {
		missing(t, "namespaces can not be made: %v", err)
	}
	conform.Run(t, namespaces)
}

func TestAccounts(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv(ordinary) == "" {
		t.Skip("only root can become accounts without sudo")
	}
	t.Setenv(accountsVariable, account(t).Name+" "+account(t).Name)
	kind := accounts
	box, err := kind.Open(conform.Site{Dir: t.TempDir(), ID: workerID, Slots: 0})
	if err != nil {
		t.Fatal(err)
	}
	kind.Promises.CPUs = box.Enforces(job.Resources{CPUs: 1000}) == nil
	kind.Promises.Memory = box.Enforces(job.Resources{Memory: 1 << 30}) == nil
	kind.Promises.Disk = box.Enforces(job.Resources{Disk: 1 << 30}) == nil
	if os.Geteuid() != 0 {
		kind.Except = map[string]string{"artifacts/modes": "the account lets the worker at its files by changing their modes"}
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	conform.Run(t, kind)
}
