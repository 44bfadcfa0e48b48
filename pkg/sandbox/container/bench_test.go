//go:build linux

package container_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// BenchmarkBuild is a whole build: cold, with a place made ahead, and beside them the
// floor, what containerd's client needs for a container with the same settings.
func BenchmarkBuild(b *testing.B) {
	for _, d := range daemons {
		if err := d.start(); err != nil {
			b.Skip(err)
		}
		b.Run(d.name+"/floor", func(b *testing.B) { floor(b, d) })
		for name, warm := range map[string]int{"cold": 0, "warm": 1} {
			b.Run(d.name+"/"+name, func(b *testing.B) {
				s := open(b, d, func(c *container.Config) { c.Warm = warm })
				var answered time.Duration
				for i := 0; b.Loop(); i++ {
					begin := time.Now()
					place, err := s.Prepare(b.Context(), sandbox.Spec{Build: fmt.Sprint(i), Script: []byte("echo")})
					if err != nil {
						b.Fatal(err)
					}
					if exit, err := place.Run(b.Context(), io.Discard); err != nil || exit.Code != 0 {
						b.Fatal(exit, err)
					}
					answered += time.Since(begin)
					if err := place.Destroy(); err != nil {
						b.Fatal(err)
					}
				}
				// What is removed after the answer, and made before the next build is asked
				// for, costs the machine but not whoever waits for this one.
				b.ReportMetric(float64(answered)/float64(b.N), "answer-ns/op")
			})
		}
	}
}

// floor is the bare client: make, start, wait, delete.
func floor(b *testing.B, d *daemon) {
	c, err := client.New(d.Socket(), client.WithDefaultNamespace(container.Namespace))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	image, err := c.GetImage(b.Context(), "docker.io/library/busybox:latest")
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprint("floor-", i)
		made, err := c.NewContainer(b.Context(), name, client.WithNewSnapshot(name, image), client.WithNewSpec(
			oci.WithDefaultSpec(), oci.WithProcessArgs("/bin/sh", "-c", "echo"), oci.WithCapabilities(nil), seccomp.WithDefaultProfile()))
		if err != nil {
			b.Fatal(err)
		}
		task, err := made.NewTask(b.Context(), cio.NewCreator(cio.WithStreams(nil, io.Discard, io.Discard)))
		if err != nil {
			b.Fatal(err)
		}
		status, err := task.Wait(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := task.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		<-status
		if _, err := task.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := made.Delete(b.Context(), client.WithSnapshotCleanup); err != nil {
			b.Fatal(err)
		}
	}
}
