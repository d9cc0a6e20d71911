package rowmesh

import (
	"testing"
	"time"
)

// TestManners: how long programs are left alone after a capture.
func TestManners(t *testing.T) {
	const ms = time.Millisecond
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name    string
		held    time.Duration
		waiting int
		busy    bool
		rest    time.Duration
	}{
		{"a single write", 3 * ms, 0, false, 6 * ms},
		{"a large import", 900 * ms, 0, false, 100 * ms},
		{"a flood", 25 * ms, 5000, true, 225 * ms},
		{"a flood that the capture has caught up with", 10 * ms, 0, true, 90 * ms},
		{"a flood into a table that is captured whole", 80 * ms, 0, true, 100 * ms},
		{"the flood is over, and some of it waits", 25 * ms, 5000, false, 0},
		{"too much waits", 25 * ms, mostWaiting + 1, true, 0},
	} {
		m := manners{urgent: true}
		if !m.may(now) {
			t.Errorf("%s: somebody waits, and the capture does not come", c.name)
		}
		m.captured(now, c.held, c.waiting, c.busy)
		if c.rest > 0 && m.may(now.Add(c.rest-ms)) || !m.may(now.Add(c.rest)) {
			t.Errorf("%s: the rest is %v, expected %v", c.name, m.rest.Sub(now), c.rest)
		}
	}
}
