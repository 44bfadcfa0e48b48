package job

import (
	"path"
	"slices"
	"strings"
)

// backups are the endings of what editors, patch and package managers leave beside a
// file, most of them as run-parts(8) has them.
var backups = []string{
	".bak", ".old", ".orig", ".rej", ".save", ".swo", ".swp", ".tmp",
	".dpkg-bak", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".dpkg-tmp", ".pkgnew", ".pkgsave", ".rpmnew", ".rpmorig", ".rpmsave",
}

// IsBackup tells, by its name, whether a file in a directory that people keep is what
// lies beside another of it: an earlier, unfinished or hidden one. No such file is a
// template or a hook.
func IsBackup(file string) bool {
	return strings.HasPrefix(file, ".") || strings.HasPrefix(file, "#") || strings.HasSuffix(file, "~") ||
		slices.Contains(backups, path.Ext(file))
}
