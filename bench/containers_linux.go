package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"
	"builder/pkg/sandbox/container/containertest"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/uuid"
)

// idlePause is how long a worker has nothing to do between two builds: enough to make
// a place ahead.
const idlePause = 300 * time.Millisecond

// containers measures builds in containers, from being asked for until nothing is left of
// them, beside what containerd's bare client needs for a container with the same
// settings. The daemon is one of our own.
func containers(ctx context.Context, b *bench) (_ []figure, err error) {
	d, err := containertest.Start("", "busybox")
	if err != nil {
		fmt.Fprintf(os.Stderr, "containers are not measured: %v\n", err)
		return nil, nil
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	bare, err := client.New(d.Socket(), client.WithDefaultNamespace(container.Namespace))
	if err != nil {
		return nil, err
	}
	defer bare.Close() //nolint:errcheck // nothing was written
	image, err := bare.GetImage(ctx, "docker.io/library/busybox:latest")
	if err != nil {
		return nil, err
	}
	boxes := map[int]*container.Sandbox{}
	for _, warm := range []int{0, 1} {
		box, err := container.Open(ctx, container.Config{
			Socket: d.Socket(), Dir: filepath.Join(b.dir, fmt.Sprint("warm-", warm)), Worker: uuid.NewString(),
			Images: map[string]string{"": "busybox"}, Pull: container.PullNever, Warm: warm,
		})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, box.Close()) }()
		boxes[warm] = box
		if _, _, err := inContainer(ctx, box); err != nil { // now it knows what to make ahead
			return nil, err
		}
	}
	var floor, cold, warm, ready []time.Duration
	for i := range b.scale(40) { // in turns: the machine's speed drifts
		begun := time.Now()
		if err := bareContainer(ctx, bare, image, fmt.Sprint("floor-", i)); err != nil {
			return nil, err
		}
		floor = append(floor, time.Since(begun))
		all, _, err := inContainer(ctx, boxes[0])
		if err != nil {
			return nil, err
		}
		cold = append(cold, all)
		time.Sleep(idlePause)
		all, ran, err := inContainer(ctx, boxes[1])
		if err != nil {
			return nil, err
		}
		warm, ready = append(warm, all), append(ready, ran)
		time.Sleep(idlePause)
	}
	var busy []time.Duration
	for range b.scale(20) {
		all, _, err := inContainer(ctx, boxes[1])
		if err != nil {
			return nil, err
		}
		busy = append(busy, all)
	}
	f := median(floor)
	row := func(name string, d time.Duration, target string) figure {
		return figure{
			name, d.Round(100 * time.Microsecond).String(), f.Round(100*time.Microsecond).String() + " (bare client: create, start, wait, delete)",
			fmt.Sprintf("%.2f", d.Seconds()/f.Seconds()), target,
		}
	}
	return []figure{
		row("a build in a container, median", median(cold), "<= 1.2"),
		row("the same with --warm 1, after a pause", median(warm), "<= 0.6"),
		row("the same, until it has ended", median(ready), ""),
		row("the same with --warm 1, one after the other", median(busy), ""),
	}, nil
}

// containerWays are those that need a containerd, which is one of our own.
func containerWays() (ways []way, stop func() error) {
	d, err := containertest.Start("", "busybox")
	if err != nil {
		fmt.Fprintf(os.Stderr, "isolation container is not measured: %v\n", err)
		return nil, func() error { return nil }
	}
	flags := []string{"--isolation", "container", "--image", "busybox", "--pull", "never", "--containerd", d.Socket()}
	return []way{{"container", flags}, {"container --warm 2", append(slices.Clip(flags), "--warm", "2")}}, d.Close
}

// inContainer is a whole build, and how long it took until the end of the script.
func inContainer(ctx context.Context, box sandbox.Sandbox) (all, ran time.Duration, err error) {
	begun := time.Now()
	place, err := box.Prepare(ctx, sandbox.Spec{Build: uuid.NewString(), Script: []byte("echo")})
	if err != nil {
		return 0, 0, err
	}
	exit, err := place.Run(ctx, io.Discard)
	ran = time.Since(begun)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("exit status %d", exit.Code)
	}
	if err == nil {
		_, _, err = place.Artifacts(nil)
	}
	err = errors.Join(err, place.Destroy())
	return time.Since(begun), ran, err
}

// bareContainer makes one, starts it, waits for it and deletes it.
func bareContainer(ctx context.Context, c *client.Client, image client.Image, name string) error {
	made, err := c.NewContainer(ctx, name, client.WithNewSnapshot(name, image), client.WithNewSpec(
		oci.WithDefaultSpec(), oci.WithProcessArgs("/bin/sh", "-c", "echo"), oci.WithCapabilities(nil), oci.WithNoNewPrivileges,
		oci.WithCgroup("/"+name), seccomp.WithDefaultProfile()))
	if err != nil {
		return err
	}
	task, err := made.NewTask(ctx, cio.NewCreator(cio.WithStreams(nil, io.Discard, io.Discard)))
	if err != nil {
		return err
	}
	status, err := task.Wait(ctx)
	if err == nil {
		err = task.Start(ctx)
	}
	if err != nil {
		return err
	}
	<-status
	if _, err := task.Delete(ctx); err != nil {
		return err
	}
	return made.Delete(ctx, client.WithSnapshotCleanup)
}
