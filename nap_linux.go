package rowmesh

import (
	"syscall"
	"time"
)

// nap waits for less than a millisecond. On Linux the timers of an idle Go program are that coarse (golang.org/issue/44343).
func nap(d time.Duration) {
	rest := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&rest, nil)
}
