package rowmesh

import "time"

// manners decide when a capture may hold up the programs that write the database. A capture has the write lock for longer
// than it took to write what it takes in. So programs that write without a pause are left alone for a while after each
// capture, and what they write meanwhile is captured in one go. A single write after a rest is captured at once.
//
// A flood of writes is captured part by part, in a small share of the time. What waits meanwhile is taken in when the flood
// ends, or when it is too much.
type manners struct {
	urgent bool      // somebody waits for the capture
	rest   time.Time // until then programs are left alone
}

// may reports whether what was written may be captured now.
func (m *manners) may(now time.Time) bool { return m.urgent || !now.Before(m.rest) }

// captured counts for how long a capture held the lock, how many entries it left for later, and whether programs wrote meanwhile.
func (m *manners) captured(now time.Time, held time.Duration, waiting int, busy bool) {
	m.urgent = false
	rest := min(restFactor*held, longestRest)
	switch {
	case waiting > mostWaiting || waiting > 0 && !busy:
		rest = 0
	case busy && held <= mostHeld:
		rest = floodFactor * held
	}
	m.rest = now.Add(rest)
}
