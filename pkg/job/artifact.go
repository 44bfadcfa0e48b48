package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Content names octets in the content store by what they are.
type Content struct {
	SHA256 [sha256.Size]byte
	Size   int64 // octets
}

// ContentOf is the Content of these octets.
func ContentOf(octets []byte) Content {
	return Content{SHA256: sha256.Sum256(octets), Size: int64(len(octets))}
}

// IsZero reports whether c names nothing. (The hash of no octets is not zero.)
func (c Content) IsZero() bool { return c == Content{} }

// String is the hash in hexadecimal.
func (c Content) String() string { return hex.EncodeToString(c.SHA256[:]) }

// Artifact is a file that a build left behind.
type Artifact struct {
	Path string      // relative, slashes, clean; see CheckPath
	Mode fs.FileMode // permission bits only; 0 where the protocol does not carry them
	Content
	// Location is where the content lies: empty for the server's own store, else
	// the URL of another one, without credentials, below which it is found by its
	// hash.
	Location string
}

// maxPath is the longest artifact path, in octets: PATH_MAX less its NUL.
const maxPath = 4095

// CheckPath tells whether p may be the path of an artifact: relative, clean
// (no empty, "." or ".." element, no trailing slash), without NUL.
func CheckPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("artifact path is empty")
	case len(p) > maxPath:
		return fmt.Errorf("artifact path %q is longer than %d octets", shorten(p), maxPath)
	case strings.IndexByte(p, 0) >= 0:
		return fmt.Errorf("artifact path %q contains a NUL octet", shorten(p))
	case p[0] == '/':
		return fmt.Errorf("artifact path %q is absolute", shorten(p))
	case path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return fmt.Errorf("artifact path %q is not clean: use no empty, \".\" or \"..\" element", shorten(p))
	}
	return nil
}
