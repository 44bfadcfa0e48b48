package container

import (
	"fmt"
	"strconv"
	"strings"
)

// user is who a build is in its container.
type user struct {
	uid, gid uint32
	set      bool // or the image decides
}

// parseUser reads UID or UID:GID. Names would have to be looked up in files of the
// image, which are not ours to read.
func parseUser(text string) (user, error) {
	if text == "" {
		return user{}, nil
	}
	first, second, both := strings.Cut(text, ":")
	uid, err := strconv.ParseUint(first, 10, 31)
	gid := uid
	if err == nil && both {
		gid, err = strconv.ParseUint(second, 10, 31)
	}
	if err != nil {
		return user{}, fmt.Errorf("user %q is not understood: use UID or UID:GID, in numbers", text)
	}
	return user{uid: uint32(uid), gid: uint32(gid), set: true}, nil
}

// within is the user for a build of an image whose own is text.
func (u user) within(text string) (user, error) {
	if u.set || text == "" || text == "root" {
		return u, nil
	}
	found, err := parseUser(text)
	if err != nil {
		return user{}, fmt.Errorf("the image's user %q is not a number: say which one with --user", text)
	}
	return found, nil
}
