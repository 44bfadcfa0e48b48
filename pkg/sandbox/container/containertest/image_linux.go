package containertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"runtime"
	"strings"
)

// LayerAndConfig are an image of one layer: a static busybox under all its names, and,
// if program is not "", that one as /bin/sh.
func LayerAndConfig(program string) (layer, config []byte, err error) {
	if layer, err = rootfs(program); err != nil {
		return nil, nil, err
	}
	config, err = json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin", "FROM_IMAGE=yes"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{Hash(layer)}},
	})
	return layer, config, err
}

// Hash is the name of a content.
func Hash(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// writeImage writes an image as a docker-archive.
func writeImage(w io.Writer, name, program string) error {
	layer, config, err := LayerAndConfig(program)
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": "config.json", "RepoTags": []string{name + ":latest"}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for name, data := range map[string][]byte{"layer.tar": layer, "config.json": config, "manifest.json": manifest} {
		if err := add(archive, tar.Header{Name: name, Mode: 0o644}, data); err != nil {
			return err
		}
	}
	return archive.Close()
}

func add(archive *tar.Writer, header tar.Header, data []byte) error {
	header.Size = int64(len(data))
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err := archive.Write(data)
	return err
}

func rootfs(program string) ([]byte, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	files := map[string]string{"bin/busybox": busybox} // where: from
	if program != "" {
		files["bin/sh"] = program
		libraries, err := exec.CommandContext(context.Background(), "ldd", program).Output()
		if err != nil {
			return nil, err
		}
		for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
			files[strings.TrimPrefix(library, "/")] = library
		}
	}
	var buffer bytes.Buffer
	layer := tar.NewWriter(&buffer)
	for _, dir := range []string{"bin", "dev", "etc", "lib", "lib64", "proc", "run", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp"} {
		if err := add(layer, tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
			return nil, err
		}
	}
	for where, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := add(layer, tar.Header{Name: where, Mode: 0o755}, data); err != nil {
			return nil, err
		}
	}
	names, err := exec.CommandContext(context.Background(), busybox, "--list").Output()
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(string(names)) {
		where := path.Join("bin", name)
		if files[where] != "" || name == "busybox" {
			continue
		}
		if err := add(layer, tar.Header{Name: where, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), layer.Close()
}
