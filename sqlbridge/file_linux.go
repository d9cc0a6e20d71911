package sqlbridge

import (
	"os"
	"syscall"
)

// syncData waits until what was written to a file is on disk, and its length, but not its times, which would be one more write.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
