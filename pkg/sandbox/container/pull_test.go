//go:build linux

package container_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"
	"builder/pkg/sandbox/container/containertest"

	"github.com/google/uuid"
)

// registry serves one image under every name, and counts who asks which one it is.
// It sends no more than half of the manifest if that is to be unsent.
func registry(t *testing.T, unsent bool) (address string, asked *atomic.Int32) {
	t.Helper()
	layer, config, err := containertest.LayerAndConfig("")
	if err != nil {
		t.Fatal(err)
	}
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	described := func(kind string, data []byte) map[string]any {
		return map[string]any{"mediaType": kind, "size": len(data), "digest": containertest.Hash(data)}
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": kind, "annotations": map[string]string{"unlike": uuid.NewString()}, // others
		"config": described("application/vnd.docker.container.image.v1+json", config),
		"layers": []any{described("application/vnd.docker.image.rootfs.diff.tar", layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{containertest.Hash(layer): layer, containertest.Hash(config): config, containertest.Hash(manifest): manifest, "1": manifest}
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := blobs[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if path.Base(r.URL.Path) == "1" {
			asked.Add(1)
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Docker-Content-Digest", containertest.Hash(manifest))
		}
		if unsent && path.Base(r.URL.Path) == containertest.Hash(manifest) && r.Method == http.MethodGet {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			w.Write(data[:len(data)/2])
			w.(http.Flusher).Flush()
			<-r.Context().Done() // the other side has closed
			return
		}
		w.Write(data)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), asked
}

// TestPullStalls: a registry that stops sending does not keep a build waiting for ever.
func TestPullStalls(t *testing.T) {
	before := container.SetRegistryPatience(200 * time.Millisecond)
	defer container.SetRegistryPatience(before)
	each(t, func(t *testing.T, d *daemon) {
		address, _ := registry(t, true)
		s := open(t, d, func(c *container.Config) {
			c.Pull, c.Images = container.PullAlways, map[string]string{"": address + "/stalls:1"}
		})
		place, err := s.Prepare(t.Context(), sandbox.Spec{Build: "b"})
		if err == nil {
			err = errors.Join(errors.New("it was pulled"), place.Destroy())
		}
		if !strings.Contains(err.Error(), "i/o timeout") {
			t.Errorf("got %v", err)
		}
	})
}

// TestPull: an image is fetched when it has to be.
func TestPull(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		address, asked := registry(t, false)
		for i, test := range []struct {
			pull   container.Pull
			asks   bool
			builds bool
		}{
			{container.PullNever, false, false},
			{container.PullMissing, true, true},
			{container.PullMissing, false, true},
			{container.PullNever, false, true},
			{container.PullAlways, true, true},
		} {
			s := open(t, d, func(c *container.Config) {
				c.Pull, c.Images = test.pull, map[string]string{"p": address + "/some/image:1"}
			})
			asked.Store(0)
			place, err := s.Prepare(t.Context(), sandbox.Spec{Build: "b", Platform: "p", Script: []byte("true")})
			if (err == nil) != test.builds || (asked.Load() > 0) != test.asks {
				t.Errorf("%d, %s: error %v, asked %d times", i, test.pull, err, asked.Load())
			}
			if err != nil {
				continue
			}
			if want := address + "/some/image:1@sha256:"; !strings.HasPrefix(place.Origin(), want) {
				t.Errorf("origin %q, want %s...", place.Origin(), want)
			}
			if err := place.Destroy(); err != nil {
				t.Error(err)
			}
		}
		if _, err := open(t, d, func(c *container.Config) { c.Images = map[string]string{"p": "busybox"} }).Prepare(t.Context(), sandbox.Spec{Build: "b", Platform: "q"}); err == nil {
			t.Error("a platform without an image has a place")
		}
	})
}
