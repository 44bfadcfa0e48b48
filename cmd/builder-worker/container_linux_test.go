package main

import (
	"slices"
	"strings"
	"testing"

	"builder/pkg/program"
)

// TestContainerRefused: wrong settings of containers, and what is told of them.
func TestContainerRefused(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		status int
		told   string
	}{
		"no image":   {nil, 2, "needs --image"},
		"empty":      {[]string{"--image", "p="}, 2, `--image "p=": name an image`},
		"platform":   {[]string{"--image", "q=i"}, 2, "no --image is for platform p"},
		"twice":      {[]string{"--image", "p=i", "--image", "p=j"}, 2, "there is i already"},
		"image":      {[]string{"--image", "Not An Image"}, 2, `image "Not An Image"`},
		"pull":       {[]string{"--image", "i", "--pull", "maybe"}, 2, `pulling "maybe"`},
		"network":    {[]string{"--image", "i", "--network", "a b"}, 2, `network "a b"`},
		"user":       {[]string{"--image", "i", "--user", "bob"}, 2, `user "bob"`},
		"capability": {[]string{"--image", "i", "--capability", "FLY"}, 2, `capability "FLY"`},
		"daemon":     {[]string{"--image", "i", "--containerd", "/nowhere/socket"}, 1, "/nowhere/socket"},
	} {
		t.Run(name, func(t *testing.T) {
			told := capture(t, func() int {
				cmd := command()
				cmd.SetArgs(slices.Concat([]string{"p", "--isolation", "container"}, test.args))
				return program.Main(t.Context(), cmd)
			}, test.status)
			if !strings.Contains(told, test.told) {
				t.Errorf("told %q, want %q", told, test.told)
			}
		})
	}
	for name, args := range map[string][]string{"image": {"image"}, "no file": {"image", "import"}} {
		t.Run(name, func(t *testing.T) {
			capture(t, func() int {
				cmd := command()
				cmd.SetArgs(args)
				return program.Main(t.Context(), cmd)
			}, 2)
		})
	}
}
