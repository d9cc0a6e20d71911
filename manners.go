package rowmesh

import "time"

// manners decide when a capture may hold up the programs that write the database. A capture has the write lock for longer
// than it took to write what it takes in. So what was written is captured at once where that is quick, with a rest for the
// programs after it; a flood is captured when it pauses, or has become so large that the one capture of all of it would keep
// programs waiting too long.
type manners struct {
	urgent   bool          // somebody waits for the capture
	rest     time.Time     // until then programs are left alone
	since    time.Time     // since when there is something to capture
	changed  time.Time     // when the database was last seen to change
	entries  int64         // that wait in the outbox
	perEntry time.Duration // what one took, lately
}

// may reports whether what was written may be captured now. look asks whether the database has changed since the last
// look, and how many entries wait.
func (m *manners) may(now time.Time, look func() (changed bool, entries int64)) bool {
	changed, entries := look()
	m.entries = entries
	if changed {
		m.changed = now
	}
	if m.since.IsZero() {
		m.since = now
	}
	quick := time.Duration(entries)*m.perEntry <= quickCapture && !now.Before(m.rest)
	return m.urgent || quick || now.Sub(m.changed) >= pauseOfWrites || entries >= mostWaiting || now.Sub(m.since) >= longestWait
}

// captured counts for how long a capture held the lock.
func (m *manners) captured(now time.Time, held time.Duration) {
	m.urgent, m.since = false, time.Time{}
	m.rest = now.Add(restFactor * held)
	if m.entries > 0 {
		m.perEntry = (m.perEntry + held/time.Duration(m.entries)) / 2
	}
}
