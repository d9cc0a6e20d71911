package rowmesh

import "time"

// manners decide when a capture may hold up the programs that write the database. A capture has the write lock for longer
// than it took to write what it takes in. So programs that write without a pause are left alone for a while after each
// capture, and what they write meanwhile is captured in one go. A single write after a rest is captured at once.
type manners struct {
	urgent bool      // somebody waits for the capture
	rest   time.Time // until then programs are left alone
}

// may reports whether what was written may be captured now.
func (m *manners) may(now time.Time) bool { return m.urgent || !now.Before(m.rest) }

// captured counts for how long a capture held the lock.
func (m *manners) captured(now time.Time, held time.Duration) {
	m.urgent = false
	m.rest = now.Add(min(restFactor*held, longestRest))
}
