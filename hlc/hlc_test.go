package hlc

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestClockIsMonotone: P9. Whatever the wall clock does, and whatever is received, each reading is greater than
// every reading and every received timestamp before it.
func TestClockIsMonotone(t *testing.T) {
	wall := rapid.OneOf(
		rapid.Int64Range(1_700_000_000_000, 1_700_000_000_100), // nearly frozen
		rapid.Int64Range(-1<<40, 1<<47),                        // jumps by decades, before 1970 too
	)
	rapid.Check(t, func(t *rapid.T) {
		var c Clock
		last := Timestamp(0)
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				got := Timestamp(rapid.Uint64Range(0, uint64(FromMillis(1<<46))).Draw(t, "received"))
				c.Update(got)
				last = max(last, got)
			case 1: // a restart: the store remembers the greatest
				c = Clock{}
				c.Update(last)
			default:
				ms := wall.Draw(t, "wall")
				got := c.Now(ms)
				if got <= last {
					t.Fatalf("reading %s after %s", got, last)
				}
				if ms > 0 && got < FromMillis(ms) {
					t.Fatalf("reading %s is before the wall clock's %s", got, FromMillis(ms))
				}
				last = got
			}
			if c.Last() != last {
				t.Fatalf("Last is %s, want %s", c.Last(), last)
			}
		}
	})
}

// TestCounterCarries: P9. A million readings at one frozen moment are all different, in order, and carry into the milliseconds.
func TestCounterCarries(t *testing.T) {
	var c Clock
	const wall, n = 1_700_000_000_000, 1 << 20
	first := c.Now(wall)
	last := first
	for range n {
		got := c.Now(wall)
		if got != last+1 {
			t.Fatalf("after %s comes %s", last, got)
		}
		last = got
	}
	if ahead := last.Millis() - wall; ahead != n>>16 {
		t.Errorf("%d readings moved the clock by %d ms, want %d", n, ahead, n>>16)
	}
}

// TestClockAfterRestart: P9. A machine that starts with a broken clock goes on from what its store holds, and one whose
// clock jumps by ten years follows it forwards and never back.
func TestClockAfterRestart(t *testing.T) {
	const year = 365 * 24 * 3600 * 1000
	const wall = int64(1_700_000_000_000)
	for _, c := range []struct {
		name           string
		stored, at, to int64 // wall times, in milliseconds
	}{
		{"at the epoch", wall, 0, wall},
		{"before the epoch", wall, -10 * year, wall},
		{"in the year 3000", wall, 1030 * year, 1030 * year},
		{"back from the year 3000", 1030 * year, wall, 1030 * year},
		{"ten years later", wall, wall + 10*year, wall + 10*year},
		{"ten years earlier", wall, wall - 10*year, wall},
		{"beyond what a timestamp holds", wall, 1 << 60, maxMillis},
	} {
		var before, after Clock
		last := before.Now(c.stored)
		after.Update(last)
		first := after.Now(c.at)
		if first <= last || first.Millis() != c.to {
			t.Errorf("%s: after %s comes %s", c.name, last, first)
		}
		if next := after.Now(c.stored); next != first+1 && c.stored <= c.to {
			t.Errorf("%s: once the clock is repaired, after %s comes %s", c.name, first, next)
		}
	}
}

// TestText: texts sort as times do, and come back.
func TestText(t *testing.T) {
	stamp := rapid.Uint64Range(0, uint64(FromMillis(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMilli())))
	rapid.Check(t, func(t *rapid.T) {
		a, b := Timestamp(stamp.Draw(t, "a")), Timestamp(stamp.Draw(t, "b"))
		if got, err := Parse(a.String()); err != nil || got != a {
			t.Fatalf("%s comes back as %s, %v", a, got, err)
		}
		if (a < b) != (a.String() < b.String()) {
			t.Fatalf("%s and %s sort in another order than their times", a, b)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	good := FromMillis(1_700_000_000_000).String()
	for _, s := range []string{
		"", good[1:], good + "0", good[:len(good)-1], strings.Replace(good, "+", "-", 1), strings.Replace(good, "Z", " ", 1), strings.ToUpper(good) + "\n",
		"2023-13-01T00:00:00.000Z+0000", "2023-02-30T00:00:00.000Z+0000", "2023-01-01T00:00:00.000Z+00G0", "1969-12-31T23:59:59.999Z+0000", "+2023-01-01T00:00:00Z",
	} {
		if got, err := Parse(s); err == nil {
			t.Errorf("%q is read as %s", s, got)
		}
	}
}
