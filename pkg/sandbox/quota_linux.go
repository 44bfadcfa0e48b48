package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quotactl(2): commands for the quota of a user, and the structure that they take,
// which x/sys does not have.
const (
	getUserQuota = 0x800007 << 8 // QCMD(Q_GETQUOTA, USRQUOTA)
	setUserQuota = 0x800008 << 8 // QCMD(Q_SETQUOTA, USRQUOTA)
	getState     = 0x5805 << 8   // QCMD(Q_XGETQSTAT, USRQUOTA)
	quotaBlock   = 1 << 10       // unit of the limits
	limitValid   = 1             // QIF_BLIMITS
	enforced     = 2             // FS_QUOTA_UDQ_ENFD
)

type userQuota struct {
	hardBlocks, softBlocks uint64
	space                  uint64 // octets in use
	hardFiles, softFiles   uint64
	files                  uint64
	blockTime, fileTime    uint64
	valid                  uint32
	_                      [4]byte
}

// quotaState is the beginning of struct fs_quota_stat, with room for the rest.
type quotaState struct {
	version int8
	flags   uint16
	_       [15]uint64
}

// limitDisk lets a user have that many octets more than now in the file system of
// dir; any number if it is 0.
func limitDisk(dir string, uid uint32, more int64) error {
	q, err := readQuota(dir, uid)
	if err != nil {
		return err
	}
	q.hardBlocks, q.softBlocks, q.valid = 0, 0, limitValid
	if more > 0 {
		q.hardBlocks = (q.space + uint64(more) + quotaBlock - 1) / quotaBlock
	}
	return quotactl(dir, setUserQuota, uid, unsafe.Pointer(&q))
}

// readQuota fails where no quota is kept.
func readQuota(dir string, uid uint32) (userQuota, error) {
	var q userQuota
	err := quotactl(dir, getUserQuota, uid, unsafe.Pointer(&q))
	return q, err
}

// canLimitDisk tells why quotas are not kept in the file system of dir.
func canLimitDisk(dir string, uid uint32) error {
	if _, err := readQuota(dir, uid); err != nil {
		return err
	}
	var state quotaState
	if err := quotactl(dir, getState, 0, unsafe.Pointer(&state)); err != nil {
		return err
	}
	if state.flags&enforced == 0 { // ext4 counts, from mkfs on, but holds nobody to it
		return fmt.Errorf("the file system of %s does not enforce quotas of users (mount it with usrquota, and see quotaon(8))", dir)
	}
	return nil
}

func quotactl(dir string, command uintptr, uid uint32, data unsafe.Pointer) error {
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer shut(at)
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, at.Fd(), command, uintptr(uid), uintptr(data), 0, 0)
	switch {
	case errno == 0:
		return nil
	case errors.Is(errno, unix.ESRCH), errors.Is(errno, unix.ENOSYS), errors.Is(errno, unix.ENOTSUP), errors.Is(errno, unix.ENOTTY), errors.Is(errno, unix.ENODEV):
		return fmt.Errorf("the file system of %s keeps no quotas of users (mount it with usrquota, and see quotaon(8))", dir)
	}
	return fmt.Errorf("asking for the quota of a user in %s: %w", dir, errno)
}
