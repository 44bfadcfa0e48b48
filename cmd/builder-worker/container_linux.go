package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"builder/pkg/program"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// containers is the kind that runs builds in containers of containerd.
type containers struct {
	images          []string
	pull, network   string
	socket, runtime string

	cniConfig, cniPlugins string

	user         string
	capabilities []string
	readOnly     bool
}

func (*containers) name() string  { return "container" }
func (*containers) about() string { return "a container of containerd" }

func (c *containers) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&c.images, "image", nil, "container: `image` of builds, REF or PLATFORM=REF; repeatable")
	f.StringVar(&c.pull, "pull", string(container.PullMissing), "container: `when` to fetch the image: missing, always, never")
	f.StringVar(&c.socket, "containerd", container.DefaultSocket, "container: `socket` of containerd")
	f.StringVar(&c.runtime, "runtime", container.DefaultRuntime, "container: `program` that runs containers, such as runsc, or a runtime io.containerd.NAME")
	f.StringVar(&c.user, "user", "", "container: `UID` or UID:GID of builds (default: the image's)")
	f.StringArrayVar(&c.capabilities, "capability", nil, "container: `capability` of builds, such as CHOWN; repeatable (default: none)")
	f.BoolVar(&c.readOnly, "read-only", false, "container: only the workspace, /tmp, /var/tmp, /run and /dev can be written")
	f.StringVar(&c.network, "network", string(container.NetworkNone), "container: `network` of builds that may have one: none, host, or the name of a CNI configuration")
	f.StringVar(&c.cniConfig, "cni-config", container.DefaultCNIConfig, "container: `directory` of CNI configurations")
	f.StringVar(&c.cniPlugins, "cni-plugins", container.DefaultCNIPlugins, "container: `directories` of CNI plugins, with colons between them")
}

// config is what the flags say, but for the worker. Images of other platforms than the
// worker's need not be here.
func (c *containers) config(s site) (container.Config, error) {
	conf := container.Config{
		Socket: c.socket, Images: map[string]string{}, Pull: container.Pull(c.pull), Runtime: c.runtime, User: c.user,
		Capabilities: c.capabilities, ReadOnly: c.readOnly, Network: container.Network(c.network), CNIConfig: c.cniConfig, CNIPlugins: c.cniPlugins,
	}
	for _, text := range c.images {
		platform, ref, both := strings.Cut(text, "=")
		if !both {
			platform, ref = "", text
		}
		if ref == "" {
			return conf, fmt.Errorf("--image %q: name an image", text)
		}
		if other := conf.Images[platform]; other != "" {
			return conf, fmt.Errorf("--image %q: there is %s already for the same platform", text, other)
		}
		conf.Images[platform] = ref
	}
	if len(conf.Images) == 0 {
		return conf, errors.New("--isolation container needs --image")
	}
	if err := conf.Valid(); err != nil || s.platform == "" {
		return conf, err
	}
	ref := cmp.Or(conf.Images[s.platform], conf.Images[""])
	if ref == "" {
		return conf, fmt.Errorf("no --image is for platform %s", s.platform)
	}
	conf.Images = map[string]string{"": ref}
	return conf, nil
}

func (c *containers) check(ctx context.Context, s site) []sandbox.Finding {
	conf, err := c.config(s)
	if err != nil {
		return []sandbox.Finding{{What: "settings", Err: program.Usage(err)}}
	}
	return container.Check(ctx, conf)
}

func (c *containers) open(ctx context.Context, s site) (closingSandbox, error) {
	conf, err := c.config(s)
	if err != nil {
		return nil, program.Usage(err)
	}
	conf.Dir, conf.Worker, conf.Warm = s.dir.Builds(), s.dir.ID.String(), s.warm
	return container.Open(ctx, conf)
}

// commands are those that belong to containers only.
func (c *containers) commands() []*cobra.Command {
	image := &cobra.Command{
		Use:   "image",
		Short: "Manage the images of containers",
		Long:  "Image manages the images that containers are made from.",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return program.Usage(errors.New("say what to do: image import FILE"))
		},
	}
	// Its settings mean something here, whatever the chosen kind is.
	image.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if err := cmd.Flags().Set("isolation", c.name()); err != nil {
			return err
		}
		return cmd.Root().PersistentPreRunE(cmd, args)
	}
	image.AddCommand(&cobra.Command{
		Use:   "import FILE",
		Short: "Take over the images of an archive",
		Long: `Import takes over the images of an archive, as made by docker save, podman save,
skopeo or umoci, so that builds need no registry. It prints their names.`,
		Example: `  docker save debian:12 -o debian.tar && builder-worker image import debian.tar`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return program.Usage(errors.New("name one file"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			archive, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer archive.Close()
			names, err := container.Import(cmd.Context(), c.socket, archive)
			for _, name := range names {
				fmt.Fprintln(cmd.OutOrStdout(), name)
			}
			switch {
			case err != nil:
				return fmt.Errorf("%s: %w", args[0], err)
			case len(names) == 0:
				return fmt.Errorf("%s: no image in it has a name", args[0])
			}
			return nil
		},
	})
	return []*cobra.Command{image}
}
