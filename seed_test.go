package rowmesh

import (
	"testing"
	"time"
)

// TestSessionNumbersRiseWithEachLoad: also where the clock was set back, or was never set.
func TestSessionNumbersRiseWithEachLoad(t *testing.T) {
	var last uint64
	for _, now := range []time.Time{time.UnixMilli(1e12), time.UnixMilli(1e12 - 1), time.UnixMilli(0), time.UnixMilli(-1e12), time.UnixMilli(2e12)} {
		seed := nextSeed(last, now)
		if seed < last+1<<32 {
			t.Errorf("at %s session numbers begin at %d, those of the load before at %d", now, seed, last)
		}
		last = seed
	}
	if want := uint64(2e18); last != want {
		t.Errorf("they begin at %d at last, the clock says %d", last, want)
	}
}
