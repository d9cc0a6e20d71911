//go:build !linux

package rowmesh

import "time"

// nap waits for about a millisecond or less.
func nap(d time.Duration) { time.Sleep(d) }
